# SPDX-License-Identifier: MIT
# The doors to the build; Meson and Ninja do the work in build*/.
#
#   make                build everything into build/
#   make check          unit and end-to-end tests; "N passed, N failed"
#   make check-asan     the same under the address and undefined sanitizers
#   make check-tsan     unit tests and the service's under the thread sanitizer
#   make check-servers  libraries in coroutines against real servers (installs
#                       them)
#   make sim            the simulated world's scenarios with SEEDS (2000) seeds each
#   make check-long     valgrind, fault sweeps, seeds, soak
#   make bench          bench-keel, bench-transfer and bench-trees (installs the
#                       peers)
#   make lint           both compilers with -Werror, formatting, layers
#   make fmt            format the sources
#   make docs           what is generated: docs/errors.md, dist/completions
#   make picture        records docs/progress.svg
#   make fuzz           every libFuzzer harness for FUZZ_SECONDS (30) each
#   make fresh          the README's commands in a bare Debian 12 root
#   make install        PREFIX= DESTDIR=
BUILD ?= build
# The prefix that the last make was given, unless another is.
PREFIX ?=
FUZZ_SECONDS ?= 30
SEEDS ?= 2000
SOURCES = $(shell git ls-files '*.c' '*.h')

# Meson's tree is $(BUILD)/obj; the programs are linked beside it.
all: $(BUILD)/obj/build.ninja
	@$(if $(PREFIX),meson configure $(BUILD)/obj -Dprefix=$(abspath $(PREFIX)))
	@ninja -C $(BUILD)/obj
	@ln -sfn obj/ferry/daemon/ferryd $(BUILD)/ferryd
	@ln -sfn obj/ferry/client/ferry $(BUILD)/ferry

$(BUILD)/obj/build.ninja:
	@test ! -e $(BUILD)/build.ninja || { \
	    echo "$(BUILD) is a build directory of Meson's own: move it away" >&2; \
	    exit 1; }
	@meson setup $(BUILD)/obj $(MESON_OPTIONS)

check: all
	@scripts/check.sh $(BUILD)

check-asan:
	@$(MAKE) --no-print-directory all BUILD=build-asan \
	    MESON_OPTIONS="-Db_sanitize=address,undefined -Db_lundef=false"
	@ASAN_OPTIONS=detect_stack_use_after_return=1 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    scripts/check.sh build-asan

check-tsan:
	@$(MAKE) --no-print-directory all BUILD=build-tsan \
	    MESON_OPTIONS="-Db_sanitize=thread -Db_lundef=false"
	@TSAN_OPTIONS=halt_on_error=1 \
	    E2E="test_transfer.py test_accounts.py test_admin.py test_service.py" scripts/check.sh build-tsan

# The libraries may have come after Meson looked for them.
check-servers: all
	@root=. && . scripts/need.sh && need test servers
	@meson setup --reconfigure $(BUILD)/obj >/dev/null
	@ninja -C $(BUILD)/obj
	@scripts/check.sh $(BUILD) servers

sim: all
	@scripts/sim.sh $(BUILD) $(SEEDS)

check-long: all
	@scripts/check-long.sh $(BUILD)

bench: bench-keel bench-transfer bench-trees
bench-keel: all
	@bench/keel.sh $(BUILD)
bench-transfer: all
	@bench/transfer.sh $(BUILD)
bench-trees: all
	@bench/trees.sh $(BUILD)

lint:
	@scripts/lint.sh

fmt:
	@clang-format -i $(SOURCES)

docs: all
	@$(BUILD)/obj/ferry/base/errors_doc > docs/errors.md
	@$(BUILD)/ferry completion bash > dist/completions/ferry.bash
	@$(BUILD)/ferry completion zsh > dist/completions/_ferry
	@$(BUILD)/ferry completion fish > dist/completions/ferry.fish

picture: all
	@root=. && . scripts/need.sh && need picture && scripts/picture.py $(BUILD)

fuzz:
	@scripts/fuzz.sh $(FUZZ_SECONDS)

fresh:
	@scripts/fresh.sh

install: all
	@meson install -C $(BUILD)/obj --no-rebuild --quiet $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

.PHONY: all check check-asan check-tsan check-servers sim check-long bench bench-keel \
    bench-transfer bench-trees lint fmt docs picture fuzz fresh install
