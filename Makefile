# SPDX-License-Identifier: GPL-2.0
#
# set_robust_list2() for Linux: the names of what can be done, and in which
# order.  How it is done is in harness/.

ARCH ?= x86_64
CONFIG ?= default
ARCHES ?= x86_64 arm64

# What the scripts take from the environment.
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
	@$(H)/run $(ARCH)

test:
	@$(H)/test $(CONFIG)

exec:
	@$(H)/exec "$(ARCH)" "$(CONFIG)" "$(PROG)" $(ARGS)

shell:
	@$(H)/shell "$(ARCH)" "$(CONFIG)"

kernel:
	@$(H)/build "$(ARCH)" "$(CONFIG)"

check:
	@$(H)/check
	@$(H)/check-docs

bench:
	@$(H)/bench

fuzz:
	@$(H)/fuzz long "$(CONFIG)"

adversity:
	@$(H)/adversity "$(CONFIG)"

alarms:
	@$(H)/alarms "$(if $(filter default,$(CONFIG)),debug,$(CONFIG))"

userland:
	@$(H)/userland

emulators:
	@$(H)/emulators

matrix:
	@$(H)/matrix all

deb:
	@$(H)/package "$(ARCH)" "$(FLAVOUR)"

# SHELL=1 must not become the shell of this make, and of the kernel's.
ifeq ($(origin SHELL),command line)
system: export LOGIN := $(SHELL)
override SHELL := /bin/sh
MAKEOVERRIDES :=
endif

system:
	@$(H)/system "$(ARCH)" "$(FLAVOUR)"

series:
	@$(H)/series "$(or $(OUT),series)"

bisect-check:
	@$(H)/bisect-check

port:
	@$(H)/port "$(KSRC)"

print-base-source:
	@$(H)/base

clean:
	@$(H)/clean build

distclean:
	@$(H)/clean caches
