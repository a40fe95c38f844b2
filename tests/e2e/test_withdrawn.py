# SPDX-License-Identifier: MIT
"""A right that is taken away between the last byte and the commit."""
import os

from ferry import Server
from wire import Wire, root_of


def test_nothing_is_published_by_a_right_that_is_gone(tmp_path, poller):
    """A commit right behind the withdrawal, before the look that is taken every
    second: several times, as one of them may come after it."""
    with Server(tmp_path, "--registration", "open") as server:
        ada = server.member("ada")
        server.admin("space", "add", "team", "--owner", "ada")
        with Wire(server.address).hello() as w:
            w.register("eve")
            for n, right in enumerate(["write", "drop"] * 3):
                server.admin("space", "grant", "team", "eve", f"list,{right}")
                data = os.urandom(1000)
                put = w.put(f"/f{n}", len(data), space="team")
                w.feed(put, 0, data)
                server.admin("space", "grant", "team", "eve", "list")
                assert w.refused("put.commit", put=put, root=root_of(data),
                                 level="committed") == "right.missing"
                assert w.ask("list", space="team", path="/")["entries"] == []
        assert ada.names(":@team/") == []
