# The C library: one shared and one static library, with two headers and two names to link by. Included by the Makefile
# at the root, where these targets run.

PREFIX ?= $(HOME)/.local
DESTDIR ?=
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
CARGO ?= cargo
# The version that the headers are made with; another would write them differently.
CBINDGEN_VERSION = 0.29.4
# release, or dev for a build with assertions and symbols.
FFI_PROFILE ?= release

FFI_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
FFI_MAJOR := $(firstword $(subst ., ,$(FFI_VERSION)))
FFI_OUT := target/ffi/$(FFI_PROFILE)
FFI_TARGET := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(FFI_PROFILE)),debug,$(FFI_PROFILE))
FFI_SONAME := libavatorch_mel.so.$(FFI_MAJOR)
FFI_CARGO := $(CARGO) rustc --quiet --lib --no-default-features --features capi --profile $(FFI_PROFILE)
# What avatorch_mel.h declares, in its order; cbindgen reads one file or the whole crate, and this is neither.
FFI_SOURCES := $(addprefix src/capi/,failure.rs config.rs arguments.rs mel.rs batch.rs stream.rs waveform.rs)
# What a program links besides the static library.
FFI_NATIVE_LIBS := -lm -lpthread -ldl

.PHONY: ffi install-ffi uninstall-ffi ffi-headers check-ffi-headers

ffi: ## Build the C library into target/ffi
	$(FFI_CARGO) --crate-type staticlib
	$(FFI_CARGO) --crate-type cdylib -- -C link-arg=-Wl,-soname,$(FFI_SONAME) -C link-arg=-Wl,-z,defs
	mkdir -p $(FFI_OUT)
	install -m 755 $(FFI_TARGET)/libavatorch.so $(FFI_OUT)/libavatorch_mel.so.$(FFI_VERSION)
	install -m 644 $(FFI_TARGET)/libavatorch.a $(FFI_OUT)/libavatorch_mel.a
	ln -sf libavatorch_mel.so.$(FFI_VERSION) $(FFI_OUT)/$(FFI_SONAME)
	ln -sf $(FFI_SONAME) $(FFI_OUT)/libavatorch_mel.so
	ln -sf $(FFI_SONAME) $(FFI_OUT)/libmojo_audio.so
	ln -sf libavatorch_mel.a $(FFI_OUT)/libmojo_audio.a

install-ffi: ffi ## Install the C library and its headers (PREFIX, default ~/.local; DESTDIR)
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(INCLUDEDIR)"
	install -m 644 include/mojo_audio.h include/avatorch_mel.h "$(DESTDIR)$(INCLUDEDIR)"
	install -m 755 $(FFI_OUT)/libavatorch_mel.so.$(FFI_VERSION) "$(DESTDIR)$(LIBDIR)"
	install -m 644 $(FFI_OUT)/libavatorch_mel.a "$(DESTDIR)$(LIBDIR)"
	cd "$(DESTDIR)$(LIBDIR)" && ln -sf libavatorch_mel.so.$(FFI_VERSION) $(FFI_SONAME) \
		&& ln -sf $(FFI_SONAME) libavatorch_mel.so && ln -sf $(FFI_SONAME) libmojo_audio.so \
		&& ln -sf libavatorch_mel.a libmojo_audio.a
	for name in avatorch_mel mojo_audio; do \
		sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
			-e 's|@VERSION@|$(FFI_VERSION)|' -e 's|@LIBS_PRIVATE@|$(FFI_NATIVE_LIBS)|' -e "s|@NAME@|$$name|" \
			src/capi/library.pc.in > "$(DESTDIR)$(LIBDIR)/pkgconfig/$$name.pc"; done

uninstall-ffi: ## Remove what install-ffi installed
	cd "$(DESTDIR)$(LIBDIR)" && rm -f libavatorch_mel.so* libavatorch_mel.a libmojo_audio.so libmojo_audio.a \
		pkgconfig/avatorch_mel.pc pkgconfig/mojo_audio.pc
	cd "$(DESTDIR)$(INCLUDEDIR)" && rm -f mojo_audio.h avatorch_mel.h

ffi-headers: $(CBINDGEN) ## Write the C headers anew from the Rust sources
	mkdir -p target/ffi
	sed '/^\/\/!/d' $(FFI_SOURCES) > target/ffi/avatorch_mel.rs
	$(CBINDGEN) --quiet --config cbindgen.toml target/ffi/avatorch_mel.rs --output include/avatorch_mel.h
	$(CBINDGEN) --quiet --config src/capi/mojo_audio.toml src/capi/mojo_audio.rs --output include/mojo_audio.h

check-ffi-headers: ffi-headers ## Fail if the C headers are not what the sources say
	git diff --exit-code -- include

# Sanitizers and the fuzzer need a nightly compiler with rust-src.
NIGHTLY ?= $(CARGO) +nightly
FUZZ_SECONDS ?= 1200
FUZZ_TARGETS ?= config lengths chunks calls wav
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing

.PHONY: fuzz-ffi sanitize-ffi

fuzz-ffi: ## Fuzz the C interface and the WAV reader with AddressSanitizer (FUZZ_SECONDS a target)
	cd tests/capi/fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" $(NIGHTLY) build --release --target x86_64-unknown-linux-gnu
	cd tests/capi/fuzz && for target in $(FUZZ_TARGETS); do mkdir -p corpus/$$target artifacts; \
		target/x86_64-unknown-linux-gnu/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 \
			-print_final_stats=1 -verbosity=0 -artifact_prefix=artifacts/$$target- corpus/$$target || exit 1; done

sanitize-ffi: ## Run the C stress program under ThreadSanitizer and AddressSanitizer
	for kind in thread:tsan address:asan; do out=target/sanitize-$${kind%:*}; \
		runtime=$$(rustc +nightly --print target-libdir)/librustc-nightly_rt.$${kind#*:}.a; \
		RUSTFLAGS="-Zsanitizer=$${kind%:*}" $(NIGHTLY) rustc --quiet -Zbuild-std --lib --no-default-features \
			--features capi --release --target x86_64-unknown-linux-gnu --target-dir $$out --crate-type staticlib \
		&& $(CC) -g -O1 -Iinclude tests/capi/stress.c -o $$out/stress -rdynamic \
			$$out/x86_64-unknown-linux-gnu/release/libavatorch.a -Wl,--whole-archive $$runtime -Wl,--no-whole-archive \
			$(FFI_NATIVE_LIBS) -lrt -lstdc++ \
		&& export ASAN_OPTIONS=quarantine_size_mb=1 && $$out/stress threads 200 && $$out/stress calls 20000 || exit 1; done
