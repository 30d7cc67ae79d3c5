# SPDX-License-Identifier: GPL-2.0
#
# set_robust_list2() for Linux: the targets, and their order. The script of a target has
# its name, in one of the folders of harness/.

ARCH ?= x86_64
CONFIG ?= default
ARCHES ?= x86_64 arm64

# The environment of the scripts.
export KSRC TIMEOUT CPUS MEMORY APPEND LOG ICOUNT V SIGNOFF OUT SEED SHORT TOOLCHAIN
export FULL LSMOD ARCHES

H := harness

.PHONY: help run test exec shell kernel check bench fuzz adversity alarms userland emulators matrix
.PHONY: deb system
.PHONY: series bisect-check port print-base-source clean distclean
.DEFAULT_GOAL := help

help:
	@$(H)/help

run:
	@$(H)/guest/run $(ARCH)

test:
	@$(H)/test/test $(CONFIG)

exec:
	@$(H)/guest/exec "$(ARCH)" "$(CONFIG)" "$(PROG)" $(ARGS)

shell:
	@$(H)/guest/shell "$(ARCH)" "$(CONFIG)"

kernel:
	@$(H)/build/kernel "$(ARCH)" "$(CONFIG)"

check:
	@$(H)/check/check
	@$(H)/check/docs

bench:
	@$(H)/bench/bench $(filter-out default,$(CONFIG))

fuzz:
	@$(H)/stress/fuzz long "$(CONFIG)"

adversity:
	@$(H)/stress/adversity "$(CONFIG)"

alarms:
	@$(H)/stress/alarms "$(if $(filter default,$(CONFIG)),debug,$(CONFIG))"

userland:
	@$(H)/userland/userland

emulators:
	@$(H)/emulators/emulators

matrix:
	@$(H)/test/matrix all

deb:
	@$(H)/deb/deb "$(ARCH)" "$(FLAVOUR)"

# Neither this make nor the kernel's may take SHELL=1 for its shell.
ifeq ($(origin SHELL),command line)
system: export LOGIN := $(SHELL)
override SHELL := /bin/sh
MAKEOVERRIDES :=
endif

system:
	@$(H)/system/system "$(ARCH)" "$(FLAVOUR)"

series:
	@$(H)/series/series "$(or $(OUT),series)"

bisect-check:
	@$(H)/series/bisect-check

port:
	@$(H)/base/port "$(KSRC)"

print-base-source:
	@$(H)/base/base

clean:
	@$(H)/clean build

distclean:
	@$(H)/clean caches
