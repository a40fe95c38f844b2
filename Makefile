# The doors to the build; Meson and Ninja do the work in build/.
#
#   make            build everything into build/
#   make check      unit tests, then the end-to-end tests
#   make fmt        format the sources
#
BUILD ?= build
MESON ?= meson

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@$(MESON) setup $(BUILD)

.PHONY: all
