# The C library: one shared and one static library, with two headers and two names to link by. Included by the Makefile
# at the root, where these targets run.

PREFIX ?= $(HOME)/.local
DESTDIR ?=
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
CARGO ?= cargo
OBJCOPY ?= objcopy
# The version that the headers are made with; another would write them differently.
CBINDGEN_VERSION = 0.29.4
# release, or dev for a build with assertions and symbols.
FFI_PROFILE ?= release

FFI_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
FFI_MAJOR := $(firstword $(subst ., ,$(FFI_VERSION)))
FFI_OUT := target/ffi/$(FFI_PROFILE)
FFI_TARGET := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(FFI_PROFILE)),debug,$(FFI_PROFILE))
FFI_SONAME := libavatorch_mel.so.$(FFI_MAJOR)
FFI_SHARED := libavatorch_mel.so.$(FFI_VERSION)
FFI_CARGO := $(CARGO) rustc --quiet --lib --no-default-features --features capi --profile $(FFI_PROFILE)
FFI_INPUTS := $(shell find src -name '*.rs') build.rs Cargo.toml Cargo.lock src/capi/install.mk
# What avatorch_mel.h declares, in its order; cbindgen reads one file or the whole crate, and this is neither.
FFI_SOURCES := $(addprefix src/capi/,failure.rs config.rs arguments.rs mel.rs batch.rs stream.rs waveform.rs)
# What a program links besides the static library.
FFI_NATIVE_LIBS := -lm -lpthread -ldl

.PHONY: ffi install-ffi uninstall-ffi ffi-headers check-ffi-headers

ffi: $(FFI_OUT)/$(FFI_SHARED) $(FFI_OUT)/libavatorch_mel.a ## Build the C library into target/ffi

$(FFI_OUT)/$(FFI_SHARED): $(FFI_INPUTS)
	$(FFI_CARGO) --crate-type cdylib -- -C link-arg=-Wl,-soname,$(FFI_SONAME) -C link-arg=-Wl,-z,defs
	mkdir -p $(FFI_OUT)
	ln -sf $(FFI_SHARED) $(FFI_OUT)/$(FFI_SONAME)
	ln -sf $(FFI_SONAME) $(FFI_OUT)/libavatorch_mel.so
	ln -sf $(FFI_SONAME) $(FFI_OUT)/libmojo_audio.so
	install -m 755 $(FFI_TARGET)/libavatorch.so $@

# The static library is one object, in which nothing is global but what the shared library exports: a program may link
# other Rust libraries beside it.
$(FFI_OUT)/libavatorch_mel.a: $(FFI_OUT)/$(FFI_SHARED)
	$(FFI_CARGO) --crate-type staticlib
	nm -D --defined-only $< | awk '{ print $$3 }' > $(FFI_OUT)/symbols
	$(CC) -r -nostdlib -Wl,--gc-sections -Wl,--force-group-allocation $$(sed 's/^/-Wl,-u,/' $(FFI_OUT)/symbols) \
		$(FFI_TARGET)/libavatorch.a -o $(FFI_OUT)/avatorch_mel.o
	$(OBJCOPY) --keep-global-symbols=$(FFI_OUT)/symbols --remove-section=.llvmbc --remove-section=.llvmcmd \
		$(if $(filter release,$(FFI_PROFILE)),--strip-debug) $(FFI_OUT)/avatorch_mel.o
	rm -f $@
	$(AR) rcs $@ $(FFI_OUT)/avatorch_mel.o
	rm $(FFI_OUT)/avatorch_mel.o
	ln -sf libavatorch_mel.a $(FFI_OUT)/libmojo_audio.a

# Folders may have any name, so the shell takes them from its environment.
install-ffi uninstall-ffi: export INSTALL_PREFIX = $(PREFIX)
install-ffi uninstall-ffi: export INSTALL_LIB = $(LIBDIR)
install-ffi uninstall-ffi: export INSTALL_INCLUDE = $(INCLUDEDIR)
install-ffi uninstall-ffi: export INSTALL_BELOW = $(DESTDIR)

install-ffi: ffi ## Install the C library and its headers (PREFIX, default ~/.local; DESTDIR)
	sh src/capi/install.sh install $(FFI_OUT) $(FFI_VERSION) "$(FFI_NATIVE_LIBS)"

uninstall-ffi: ## Remove what install-ffi installed
	sh src/capi/install.sh uninstall $(FFI_OUT) $(FFI_VERSION)

target/ffi/include/%.h: $(FFI_SOURCES) src/capi/mojo_audio.rs cbindgen.toml src/capi/mojo_audio.toml $(CBINDGEN)
	mkdir -p target/ffi/include
	sed '/^\/\/!/d' $(FFI_SOURCES) > target/ffi/include/avatorch_mel.rs
	cp src/capi/mojo_audio.rs target/ffi/include
	$(CBINDGEN) --quiet --config $(if $(filter mojo_audio,$*),src/capi/mojo_audio.toml,cbindgen.toml) \
		target/ffi/include/$*.rs --output $@

ffi-headers: target/ffi/include/avatorch_mel.h target/ffi/include/mojo_audio.h ## Write the C headers anew
	cp $^ include

check-ffi-headers: target/ffi/include/avatorch_mel.h target/ffi/include/mojo_audio.h ## Fail if they are not what the sources say
	for header in $^; do diff -u include/$${header##*/} $$header || exit 1; done

# Sanitizers and the fuzzer need a nightly compiler with rust-src.
NIGHTLY ?= $(CARGO) +nightly
FUZZ_SECONDS ?= 1200
FUZZ_TARGETS ?= config lengths chunks calls wav
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing

.PHONY: fuzz-ffi sanitize-ffi sanitize-ffi-thread sanitize-ffi-address

fuzz-ffi: ## Fuzz the C interface and the WAV reader with AddressSanitizer (FUZZ_SECONDS a target)
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" $(NIGHTLY) build --release --target x86_64-unknown-linux-gnu \
		$(addprefix --bin ,$(FUZZ_TARGETS))
	cd fuzz && for target in $(FUZZ_TARGETS); do mkdir -p corpus/$$target artifacts; \
		target/x86_64-unknown-linux-gnu/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=60 -rss_limit_mb=2048 \
			-print_final_stats=1 -verbosity=0 -artifact_prefix=artifacts/$$target- corpus/$$target || exit 1; done

sanitize-ffi: sanitize-ffi-thread sanitize-ffi-address ## Run C programs under ThreadSanitizer and AddressSanitizer

# A leak ends the run under AddressSanitizer; memory of the process says nothing there, where freed blocks are kept.
sanitize-ffi-thread sanitize-ffi-address: sanitize-ffi-%:
	RUSTFLAGS="-Zsanitizer=$*" $(NIGHTLY) rustc --quiet -Zbuild-std --lib --no-default-features --features capi --release \
		--target x86_64-unknown-linux-gnu --target-dir target/sanitize-$* --crate-type staticlib
	runtime=$$($(NIGHTLY) rustc -Zunstable-options --quiet --lib --print target-libdir)/librustc-nightly_rt.$(if $(filter thread,$*),tsan,asan).a; \
	for program in stress attacks; do $(CC) -g -O1 -std=c11 -Iinclude tests/capi/$$program.c -rdynamic \
		-o target/sanitize-$*/$$program target/sanitize-$*/x86_64-unknown-linux-gnu/release/libavatorch.a \
		-Wl,--whole-archive $$runtime -Wl,--no-whole-archive $(FFI_NATIVE_LIBS) -lrt -lstdc++ || exit 1; done
	target/sanitize-$*/stress threads 200
	target/sanitize-$*/stress calls 20000
	for attack in free ending; do target/sanitize-$*/attacks $$attack || exit 1; done
