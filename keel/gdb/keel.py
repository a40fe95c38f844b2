# SPDX-License-Identifier: MIT
"""Coroutines of keel in gdb, of a live process or a core.

    (gdb) source /usr/local/share/keel/gdb/keel.py
    (gdb) keel list            every coroutine: number, name, loop, state
    (gdb) keel select 3        bt, up, info locals, info registers: of number 3
    (gdb) keel select off      of the thread again
    (gdb) keel bt 3            its backtrace
    (gdb) keel bt all          all backtraces

Numbers hold until the program goes on, which also ends a selection.  The
coroutine is shown as the caller of the thread's innermost frame, frame 0, so
that no register is written: its own frames begin at frame 1.  Of the registers
it has those that its stack has kept.  libkeel needs its debug information
(-g).

A core that gdb itself makes (gcore) lacks the stacks where these have the
guards of Linux 6.13; the kernel's has them, and with KEEL_GUARD=mprotect in the
environment so has gdb's."""

import re

import gdb
from gdb.unwinder import Unwinder, register_unwinder


def number(value):
    return gdb.Value(value).cast(gdb.lookup_type("unsigned long"))


def word(address):
    pointer = gdb.Value(address).cast(gdb.lookup_type("unsigned long").pointer())
    return int(pointer.dereference())


class X86:
    """See switch_stacks in keel/loop/switch.h: what it leaves at `sp`."""

    sp, pc = "rsp", "rip"

    @staticmethod
    def parked(sp):
        return {"rbp": word(sp + 8), "rip": word(sp + 16), "rsp": sp + 24}


class Arm64:
    """See keel/loop/switch.c."""

    sp, pc = "sp", "pc"

    @staticmethod
    def parked(sp):
        kept = {"x%d" % n: word(sp + 8 * (n - 19)) for n in range(19, 31)}
        kept["pc"] = kept["x30"]
        kept["sp"] = sp + 160
        return kept


def machine():
    name = gdb.selected_inferior().architecture().name()
    if name.startswith("i386:x86-64"):
        return X86
    if name.startswith("aarch64"):
        return Arm64
    raise gdb.GdbError("keel: no coroutines of %s" % name)


# ---- who is there ----


class Coroutine:
    ARMED = 0  # see keel/loop/loop.h

    def __init__(self, number, loop, body):
        self.number, self.loop, self.body = number, loop, body
        self.co = body["co"]

    def name(self):
        return self.body["name"].string()

    def loop_name(self):
        return self.loop["name"].string()

    def runs(self):
        return int(self.co) == int(self.loop["current"])

    def state(self):
        waiter = self.body["waits"]
        if self.runs():
            return "running"
        if self.body["paused"]:
            return "not begun"
        if not int(waiter) or int(waiter["state"]) != self.ARMED:
            return "ready"
        text = "waiting: " + waiter["what"].string()
        if int(waiter["on"]):
            text += " 0x%x" % int(waiter["on"])
        age = int(self.loop["now"]) - int(self.body["since"])
        return "%s, for %.3f s" % (text, max(age, 0) / 1e9)


def coroutines():
    symbol = gdb.lookup_static_symbol("loops_all")
    if symbol is None:
        raise gdb.GdbError("keel: no debug information of libkeel here")
    found = []
    loop = symbol.value()
    while int(loop):
        body = loop["bodies"] if loop["open"] else None
        while body is not None and int(body):
            found.append(Coroutine(len(found) + 1, loop, body))
            body = body["next"]
        loop = loop["all_next"]
    return found


def coroutine(text):
    found = coroutines()
    if not text.isdigit() or not 1 <= int(text) <= len(found):
        raise gdb.GdbError("keel: there is no coroutine %s" % (text or "without a number"))
    return found[int(text) - 1]


# ---- looking at one ----


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = number(sp), number(pc)


class Selection(Unwinder):
    """While something is selected, the thread's innermost frame, which is known
    by where it is, has the coroutine's for its caller."""

    def __init__(self):
        super().__init__("keel")
        self.at = self.registers = None

    def __call__(self, pending):
        if self.at is None:
            return None
        m = machine()
        here = tuple(int(pending.read_register(r)) & (1 << 64) - 1 for r in (m.sp, m.pc))
        if here != self.at:
            return None
        # Below the coroutine's: gdb takes stacks to grow in one direction.
        info = pending.create_unwind_info(FrameId(self.registers[m.sp] - 64, self.at[1]))
        for name, value in self.registers.items():
            info.add_saved_register(name, number(value))
        return info

    def choose(self, co):
        self.clear()
        m = machine()
        newest = gdb.newest_frame()
        at = tuple(int(newest.read_register(r)) & (1 << 64) - 1 for r in (m.sp, m.pc))
        self.registers = m.parked(int(co.co["sp"]))
        self.at = at
        gdb.invalidate_cached_frames()

    def clear(self, *_):
        if self.at is not None:
            self.at = None
            gdb.invalidate_cached_frames()


selection = Selection()
register_unwinder(None, selection, replace=True)
gdb.events.cont.connect(selection.clear)


def to_thread(loop):
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == int(loop["thread_id"]) or thread.ptid[0] == int(loop["thread_id"]):
            thread.switch()
            return
    raise gdb.GdbError("keel: the thread of loop '%s' is not here" % loop["name"].string())


def backtrace(co):
    print("coroutine %d '%s' [%s] %s" % (co.number, co.name(), co.loop_name(), co.state()))
    if co.runs():
        before = gdb.selected_thread()
        selection.clear()
        to_thread(co.loop)
        print(gdb.execute("bt", to_string=True), end="")
        before.switch()
        return
    if co.body["paused"]:
        print("begins in %s" % co.body["fn"])
        return
    selection.choose(co)
    text = gdb.execute("bt", to_string=True)
    selection.clear()
    start = text.find("\n#1 ")
    for line in text[start + 1:].splitlines() if start >= 0 else []:
        print(re.sub(r"^#(\d+) ", lambda m: "#%-3d" % (int(m.group(1)) - 1), line))


# ---- commands ----


class Keel(gdb.Command):
    __doc__ = __doc__

    def __init__(self):
        super().__init__("keel", gdb.COMMAND_STACK, prefix=True)

    def invoke(self, argument, from_tty):
        gdb.execute("help keel")


class List(gdb.Command):
    """keel list: every coroutine of every loop."""

    def __init__(self):
        super().__init__("keel list", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for co in coroutines():
            print("%4d  '%s' [%s] %s" % (co.number, co.name(), co.loop_name(), co.state()))


class Select(gdb.Command):
    """keel select N: what follows looks at coroutine N; off: at the thread."""

    def __init__(self):
        super().__init__("keel select", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if argument == "off":
            selection.clear()
            return
        co = coroutine(argument)
        if co.runs():
            selection.clear()
            to_thread(co.loop)
        else:
            selection.choose(co)
            gdb.newest_frame().older().select()
        gdb.execute("frame")


class Backtrace(gdb.Command):
    """keel bt N, keel bt all: backtraces."""

    def __init__(self):
        super().__init__("keel bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for co in coroutines() if argument == "all" else [coroutine(argument)]:
            backtrace(co)


Keel()
List()
Select()
Backtrace()
