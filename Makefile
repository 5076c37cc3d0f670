# SPDX-License-Identifier: Apache-2.0
# Each target first installs what it needs from Debian's packages (tools/deps.sh says what it does).
BUILD ?= build
SAN   ?= build-san

.PHONY: all demo check bench clean deps format coverage soak

all: build

deps:
	@tools/deps.sh

.PHONY: build
build: deps
	@test -f $(BUILD)/build.ninja || log=$$(meson setup $(BUILD)) || { echo "$$log"; exit 1; }
	@ninja -C $(BUILD) --quiet

demo: build
	@tools/demo.sh $(BUILD)

check: build
	@tools/check.sh $(BUILD) $(SAN)

bench: build
	@bench/run.sh $(BUILD)

# Longer runs of the simulator; MINUTES says how long.
soak: build
	@$(BUILD)/tests/sim/sim --minutes $(or $(MINUTES),10)

coverage:
	@tools/contract-coverage.py

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf $(BUILD) $(SAN)
