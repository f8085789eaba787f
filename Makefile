# clauded: build, test, package. `make help` lists what there is.
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
LIBDIR   ?= $(PREFIX)/lib
UNITDIR  ?= $(LIBDIR)/systemd/system
# systemd looks for generators beside its units: below /lib on a system whose /usr is not merged.
GENERATORDIR ?= $(UNITDIR)-generators
MANDIR   ?= $(PREFIX)/share/man
DOCDIR   ?= $(PREFIX)/share/doc/clauded
# Where the programs that are installed come from.
BIN      ?= target/release
DESTDIR  ?=
CARGO    ?= cargo
INSTALL  ?= install
# Units name the programs where Debian has them; elsewhere the paths are changed on the way.
UNIT_SED  = sed -e 's,/usr/bin/clauded,$(BINDIR)/clauded,' -e 's,/usr/lib/clauded/,$(LIBDIR)/clauded/,'

.PHONY: help build test lint deb install demo demo-vm bench clean

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

build: ## the programs, optimised, for this machine: target/release
	$(CARGO) build --release --locked --bins

test: ## every layer: unit and integration tests, the package, real systemd in containers and virtual machines
	tests/run.sh

lint: ## formatting, clippy, rustdoc, licenses, units, scripts, workflows, shipped configuration
	tests/lint.sh

deb: ## dist/clauded_VERSION_amd64.deb, for glibc 2.31 and newer
	packaging/deb.sh

demo: ## clauded without systemd in a throw-away directory: some tasks, their outcomes, the metrics (AGENT=claude: the real CLI)
	$(CARGO) build --locked --bins
	tests/demo/run.sh

demo-vm: deb ## the same in a virtual machine, with the installed package and real systemd
	tests/demo/vm.sh

bench: ## the figures of the design, each beside its peer or limit
	tests/bench/run.sh

# After `make build`. DESTDIR= for packagers, PREFIX= for everyone; the configuration is in /etc/clauded wherever the programs are.
# Creates no user and starts nothing; see the last line.
install: ## what is built, under DESTDIR and PREFIX
	$(INSTALL) -D -m 755 $(BIN)/clauded $(DESTDIR)$(BINDIR)/clauded
	$(INSTALL) -D -m 755 $(BIN)/claudectl $(DESTDIR)$(BINDIR)/claudectl
	$(INSTALL) -D -m 755 $(BIN)/clauded-runner $(DESTDIR)$(LIBDIR)/clauded/clauded-runner
	$(INSTALL) -D -m 755 $(BIN)/clauded-generator $(DESTDIR)$(GENERATORDIR)/clauded-generator
	$(INSTALL) -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(LIBDIR)/systemd/user $(DESTDIR)/etc/clauded/clauded.toml.d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5
	for u in units/*.service units/*.socket units/*.slice; do $(UNIT_SED) $$u > $(DESTDIR)$(UNITDIR)/$${u##*/} && chmod 644 $(DESTDIR)$(UNITDIR)/$${u##*/} || exit 1; done
	for u in units/user/*; do $(UNIT_SED) $$u > $(DESTDIR)$(LIBDIR)/systemd/user/$${u##*/} && chmod 644 $(DESTDIR)$(LIBDIR)/systemd/user/$${u##*/} || exit 1; done
	$(INSTALL) -D -m 644 units/sysusers.d/clauded.conf $(DESTDIR)$(LIBDIR)/sysusers.d/clauded.conf
	$(INSTALL) -D -m 644 units/tmpfiles.d/clauded.conf $(DESTDIR)$(LIBDIR)/tmpfiles.d/clauded.conf
	[ -e $(DESTDIR)/etc/clauded/clauded.toml ] || $(INSTALL) -D -m 644 config/clauded.toml $(DESTDIR)/etc/clauded/clauded.toml
	$(BIN)/claudectl man $(DESTDIR)$(MANDIR)/man1
	for m in packaging/man/*.5; do [ ! -e $$m ] || $(INSTALL) -m 644 $$m $(DESTDIR)$(MANDIR)/man5/ || exit 1; done
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN)/claudectl completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/claudectl
	$(BIN)/claudectl completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_claudectl
	$(BIN)/claudectl completions fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/claudectl.fish
	$(INSTALL) -d $(DESTDIR)$(DOCDIR)/examples
	$(INSTALL) -m 644 config/examples/*.toml packaging/github/*.yml $(DESTDIR)$(DOCDIR)/examples/
	for d in README.md SECURITY.md CHANGELOG.md docs; do [ ! -e $$d ] || cp -r --no-preserve=ownership $$d $(DESTDIR)$(DOCDIR)/ || exit 1; done
	@[ -n "$(DESTDIR)" ] || echo "now: systemd-sysusers && systemd-tmpfiles --create clauded.conf && systemctl daemon-reload && systemctl enable --now clauded"

clean: ## what was built, the downloaded tools included
	$(CARGO) clean
	rm -rf dist tests/vm/out debian/clauded debian/.debhelper debian/files debian/*.substvars debian/*.debhelper debian/*.debhelper.log debian/debhelper-build-stamp
