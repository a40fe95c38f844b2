# SPDX-License-Identifier: MIT
"""ferryd is killed at random while several people put small and large files,
move, remove and make directories in their homes, and put, replace and remove
trees - hostile names, links, times, empty directories - in a space they share.
After each start nothing that was answered is lost, each line of `put -r --json`
is an answer, every name is old or new, and the quota is the sum of what is
there.

Quick: a few kills; KEEL_TEST_LONG: two hundred.
"""
import base64
import json
import os
import random
import shutil
import stat
import subprocess
import threading
import time

from ferry import PATIENCE, SANITIZED, Server
from wire import root_of

LONG = bool(os.environ.get("KEEL_TEST_LONG"))
KILLS = 200 if LONG else 10
PEOPLE = 4
# How many answers a kill waits for, at most, before its random moment.
BUSY = 6
MOMENT = 0.03
if SANITIZED:
    MOMENT *= 5
DIRECTORY = "directory"
SIZES = [0, 1, 700, 40_000, 262_144, 262_145]
LARGE = [(1 << 20) + 1, (3 << 20) + 17]
# Trees: a name's kind is its first letter.
TREE_SIZES = [0, 1, 700, 40_000, 262_145]
TAILS = ["", " space", "\n", "\x1b[31mred\x07", "\udcff\udcfe", "\\", ":",
         "grün 文件", "x" * 240, "%41", "'\"$(id)`"]


class Group:
    """Names that change together: what each was and shall be (None: absent)."""

    def __init__(self, before, after):
        self.before, self.after = before, after

    def states(self, found):
        """What may be found when no answer came."""
        yield self.before
        yield self.after
        # A new link is made in its place and dated next: the put that goes on
        # dates it.
        n, c = next(iter(self.after.items()))
        if len(self.after) == 1 and n in found and self.before[n] is None:
            if isinstance(c, tuple) and c[0] == "l":
                yield {n: (*c[:2], found[n][-1])}


class Person(threading.Thread):
    """Works until the server is gone.  `known` is what each name surely is;
    `open` the groups whose change was asked for and not answered."""

    def __init__(self, client, number, tmp):
        super().__init__()
        self.client, self.number, self.tmp = client, number, tmp
        self.random = random.Random(f"{number}")
        self.known, self.open = {}, []
        self.killed, self.answered = threading.Event(), threading.Semaphore(0)
        self.error = None
        self.sources = tmp / f"sources{number}"
        self.sources.mkdir()

    def again(self):
        """A thread for the next life of the server."""
        threading.Thread.__init__(self)
        return self

    def run(self):
        try:
            while not self.open:
                self.random.choice(OPERATIONS)(self)
        except Exception as error:
            self.error = error
        finally:
            # Whoever waits for answers waits no more.
            self.answered.release(BUSY + 1)

    # ---- what a person does

    def change(self, groups, *command, prefix=""):
        """Runs it; what was not answered stays open."""
        result = self.client.run(*command, "--json", status=None)
        done = set()
        if result.status == 0:
            done = set(range(len(groups)))
        else:
            assert self.killed.is_set() and result.status in (1, 3, 5), result
            for o in result.objects():
                if o.get("level") == "committed" or \
                        o.get("do") in ("mkdir", "link"):
                    name = prefix + text(o["path"]).lstrip("/")
                    done |= {i for i, g in enumerate(groups)
                             if name in g.after}
        for i, g in enumerate(groups):
            if i in done:
                self.known.update(g.after)
            else:
                self.open.append(g)
        self.answered.release()
        return result.status == 0

    def of(self, after):
        return Group({n: self.known.get(n) for n in after}, after)

    def directories(self):
        return [""] + [n + "/" for n, c in self.known.items()
                       if c == DIRECTORY]

    def files(self):
        return [n for n, c in self.known.items() if isinstance(c, bytes)]

    def tree(self, top):
        """What is known of a tree in the shared space."""
        return {n: c for n, c in self.known.items() if c is not None
                and (n == top or n.startswith(top + "/"))}

    def put(self, sizes, count):
        where = self.random.choice(self.directories())
        names = self.random.sample(range(9), count)
        groups, sources = [], []
        for n in names:
            data = self.random.randbytes(self.random.choice(sizes))
            source = self.sources / f"n{n}"
            source.write_bytes(data)
            sources.append(source)
            groups.append(self.of({f"{where}n{n}": data}))
        self.change(groups, "put", *sources, f":/{where}")

    def put_small(self):
        self.put(SIZES, self.random.randint(1, 6))

    def put_large(self):
        self.put(LARGE, 1)

    def make_directory(self):
        name = f"d{self.random.randrange(4)}"
        if self.known.get(name) is None:
            self.change([self.of({name: DIRECTORY})], "mkdir", f":/{name}")

    def move(self):
        files = self.files()
        if not files:
            return
        name = self.random.choice(files)
        to = self.random.choice(self.directories()) + \
            f"n{self.random.randrange(9)}"
        if to != name:
            self.change([self.of({name: None, to: self.known[name]})],
                        "mv", f":/{name}", f":/{to}")

    def remove(self):
        files = self.files()
        if files:
            name = self.random.choice(files)
            self.change([self.of({name: None})], "rm", f":/{name}")

    def remove_tree(self):
        trees = self.directories()[1:]
        if trees:
            tree = self.random.choice(trees)
            inside = [n for n in self.known if n.startswith(tree)
                      and self.known[n] is not None]
            # A tree goes entry by entry, the directory last.
            self.change([self.of({n: None}) for n in inside + [tree[:-1]]],
                        "rm", "-r", f":/{tree[:-1]}")

    def plant(self, top):
        """A tree here, as a picture of it."""
        here = self.sources / top
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        directories = [here]
        for _ in range(self.random.randint(1, 4)):
            new = self.random.choice(directories) / self.name_of("d")
            if not new.exists():
                new.mkdir()
                directories.append(new)
        # The others stay empty.
        for d in self.random.sample(directories, (len(directories) + 1) // 2):
            for _ in range(self.random.randint(1, 5)):
                (d / self.name_of("f")).write_bytes(self.random.randbytes(
                    self.random.choice(TREE_SIZES)))
            link = d / self.name_of("l")
            if not link.is_symlink():
                link.symlink_to(self.random.choice(
                    ["..", "/etc/passwd", "nowhere \udcff\n"]))
        for p in sorted([here, *here.rglob("*")], reverse=True):
            os.utime(p, ns=(0, self.random.randrange(10**18, 2 * 10**18)),
                     follow_symlinks=False)
        return {f"@{n}": c for n, c in picture(self.sources, top).items()}

    def name_of(self, kind):
        return kind + self.random.choice(TAILS)

    def shared_top(self):
        return f"u{self.number}t{self.random.randrange(2)}"

    def forget_times(self, names):
        """Directories whose entries change."""
        for n in names:
            if (self.known.get(n) or (None,))[0] == "d":
                self.known[n] = ("d", None)

    def put_tree(self):
        top = self.shared_top()
        after = self.plant(top)
        self.forget_times(after)
        undated = {n: ("d", None) if c[0] == "d" else c
                   for n, c in after.items()}
        if self.change([self.of({n: c}) for n, c in undated.items()],
                       "put", "-r", self.sources / top, ":@team/",
                       prefix="@"):
            self.known.update(after)

    def remove_shared(self):
        top = self.shared_top()
        inside = self.tree(f"@{top}")
        if inside:
            self.forget_times(inside)
            self.change([self.of({n: None}) for n in inside],
                        "rm", "-r", f":@team/{top}")

    def move_shared(self):
        """A whole tree at once, if there is room for its name."""
        old, new = self.random.sample([f"u{self.number}t0",
                                       f"u{self.number}t1"], 2)
        inside = self.tree(f"@{old}")
        if not inside or self.tree(f"@{new}"):
            return
        after = {n: None for n in inside}
        after.update({f"@{new}" + n[len(old) + 1:]: c
                      for n, c in inside.items()})
        self.change([self.of(after)], "mv", f":@team/{old}", f":@team/{new}")

    # ---- after the next start

    def listing(self):
        found, trees = {}, [""]
        for tree in trees:
            for e in self.client.run("ls", "--json", f":/{tree}").objects():
                found[tree + e["name"]] = e
                if e["type"] == "d":
                    trees.append(f"{tree}{e['name']}/")
        return found

    def content(self, name):
        back = self.tmp / f"back-{self.name}"
        back.unlink(missing_ok=True)
        self.client.run("get", f":/{name}", back)
        return back.read_bytes()

    def is_now(self, name, entry, wanted):
        if wanted is None or entry is None:
            return wanted is None and entry is None
        if name.startswith("@"):
            return entry == wanted or (entry[0] == "d" and
                                       wanted == ("d", None))
        if wanted == DIRECTORY:
            return entry["type"] == "d"
        if entry["type"] != "f" or entry["size"] != len(wanted):
            return False
        if "hash" in entry and entry["hash"] != root_of(wanted):
            return False
        return self.content(name) == wanted

    def check(self, shared):
        found = self.listing()
        found.update({n: c for n, c in shared.items()
                      if n.startswith(f"@u{self.number}t")})
        for g in self.open:
            for after in g.states(found):
                if all(self.is_now(n, found.get(n), c)
                       for n, c in after.items()):
                    self.known.update(after)
                    break
            else:
                raise AssertionError(f"neither old nor new: {short(g.before)} "
                                     f"-> {short(g.after)}: {short(found)}")
        unsure = {n for g in self.open for n in g.after}
        self.open = []
        for name, wanted in self.known.items():
            entry = found.pop(name, None)
            if name not in unsure and isinstance(wanted, bytes) \
                    and entry and entry.get("hash") == root_of(wanted):
                continue
            assert self.is_now(name, entry, wanted), \
                f"{name} should be {short({name: wanted})} and is {short({name: entry})}"
        assert not found, f"nobody made {short(found)}"
        files = [c for c in self.known.values() if isinstance(c, bytes)]
        me = self.client.run("whoami", "--json").objects()[0]
        names = [n for n, c in self.known.items()
                 if c is not None and not n.startswith("@")]
        assert (me["used_files"], me["used_bytes"]) == \
            (len(names), sum(map(len, files)))


OPERATIONS = ([Person.put_small] * 5 + [Person.put_large] * 2 +
              [Person.make_directory] * 2 + [Person.move] * 3 +
              [Person.remove] * 2 + [Person.remove_tree] +
              [Person.put_tree] * 6 + [Person.remove_shared] +
              [Person.move_shared] * 2)


def text(name):
    """A name of JSON; of any bytes."""
    if isinstance(name, dict):
        return os.fsdecode(base64.b64decode(name["b64"]))
    return name


def picture(root, below=""):
    """What makes a tree: names, types, contents, times."""
    found = {}
    for p in [root / below] * bool(below) + list((root / below).rglob("*")):
        st, name = p.lstat(), str(p.relative_to(root))
        if stat.S_ISDIR(st.st_mode):
            found[name] = ("d", st.st_mtime_ns)
        elif stat.S_ISLNK(st.st_mode):
            found[name] = ("l", os.readlink(p), st.st_mtime_ns)
        else:
            found[name] = ("f", p.read_bytes(), st.st_mtime_ns)
    return found


def shared_now(server, client, tmp):
    """The shared space, fetched; its quota is the sum."""
    back = tmp / "shared"
    shutil.rmtree(back, ignore_errors=True)
    client.run("get", "-r", ":@team/", back)
    found = {f"@{n}": c for n, c in picture(back).items()}
    sizes = [len(c[1]) for c in found.values() if c[0] == "f"]
    (team,) = [json.loads(line) for line in server.admin(
        "space", "list", "--json").splitlines()]
    assert (team["used_files"], team["used_bytes"]) == \
        (len(found), sum(sizes)), team
    return found


def short(names):
    return {n: tuple(f"{len(p)} bytes" if isinstance(p, bytes) else p
                     for p in (c if isinstance(c, tuple) else (c,)))
            for n, c in names.items()}


def live_and_die(server, people, chance):
    for p in people:
        p.killed.clear()
        p.again().start()
    # Everybody has been answered, and then at any moment.
    for p in people:
        for _ in range(chance.randint(1, BUSY)):
            assert p.answered.acquire(timeout=PATIENCE)
    time.sleep(chance.uniform(0, MOMENT))
    for p in people:
        p.killed.set()
    server.kill()
    for p in people:
        p.join(PATIENCE)
        if p.error:
            raise p.error
        while p.answered.acquire(blocking=False):
            pass


def check_ledger(server):
    checked = subprocess.run(
        [str(server.program), "check", "--data", str(server.data)],
        env=server.env, capture_output=True, text=True, timeout=PATIENCE,
        check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_kills_under_load_lose_nothing_that_was_answered(tmp_path, monkeypatch):
    chance = random.Random(os.environ.get("FERRY_SEED", "1"))
    server = Server(tmp_path).start()
    people = [Person(server.member(f"user{i}"), i, tmp_path)
              for i in range(PEOPLE)]
    server.admin("space", "add", "team", "--owner", "user0")
    for p in people[1:]:
        server.admin("space", "grant", "team", f"user{p.number}", "all")
    address = server.address
    for kill in range(KILLS):
        live_and_die(server, people, chance)
        monkeypatch.setenv("KEEL_POLLER", ("uring", "epoll")[kill % 2])
        server = Server(tmp_path, "--listen", address).start()
        print(f"kill {kill + 1} of {KILLS}")
        shared = shared_now(server, people[0].client, tmp_path)
        for p in people:
            p.check(shared)
        if kill % 20 == 9:
            check_ledger(server)
    assert server.stop() == 0
    # The same without the daemon.
    check_ledger(server)
