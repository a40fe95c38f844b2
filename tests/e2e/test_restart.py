# SPDX-License-Identifier: MIT
"""A ferryd that was killed starts again at once, at the address where it was:
the kernel may hold a dead one's sockets longer than its process."""
from ferry import Server

KILLS = 15


def test_a_killed_ferryd_starts_again_where_it_was(tmp_path, poller):
    first = Server(tmp_path).start()
    address = first.address
    ada = first.member()
    first.kill()
    for _ in range(KILLS):
        again = Server(tmp_path, "--listen", address).start()
        assert again.address == address
        again.kill()
    with Server(tmp_path, "--listen", address) as last:
        assert ada.names() == []
        # Administration reaches the one that runs.
        assert last.invite().startswith("ferry://")
