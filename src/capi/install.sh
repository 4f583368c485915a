# install.sh install|uninstall BUILT VERSION [LIBRARIES]: puts the C library into folders, or takes it out of them.
# The environment names them: INSTALL_PREFIX, INSTALL_LIB, INSTALL_INCLUDE, and INSTALL_BELOW, which stands before all.
set -eu

built=$2 version=$3
soname=libavatorch_mel.so.${version%%.*}
case $INSTALL_PREFIX in /*) from="" ;; *) from=$PWD/ ;; esac
prefix=$from$INSTALL_PREFIX
case $INSTALL_LIB in /*) lib=$INSTALL_LIB ;; *) lib=$PWD/$INSTALL_LIB ;; esac
case $INSTALL_INCLUDE in /*) include=$INSTALL_INCLUDE ;; *) include=$PWD/$INSTALL_INCLUDE ;; esac
to_lib=$INSTALL_BELOW$lib
to_include=$INSTALL_BELOW$include

# Of the same major version: an older one is replaced, whatever its number was.
remove() {
  rm -f "$to_include/mojo_audio.h" "$to_include/avatorch_mel.h" "$to_lib/$soname" "$to_lib/$soname".* \
    "$to_lib/libavatorch_mel.so" "$to_lib/libmojo_audio.so" "$to_lib/libavatorch_mel.a" "$to_lib/libmojo_audio.a" \
    "$to_lib/pkgconfig/avatorch_mel.pc" "$to_lib/pkgconfig/mojo_audio.pc"
}

# A folder below the prefix is named by it, so that the files may be moved.
below_prefix() {
  case $1 in "$prefix"/*) printf '%s' "\${prefix}${1#"$prefix"}" ;; *) printf '%s' "$1" ;; esac
}

package() {
  printf 'prefix=%s\nlibdir=%s\nincludedir=%s\n\n' "$prefix" "$(below_prefix "$lib")" "$(below_prefix "$include")"
  sed -e "s/@NAME@/$1/" -e "s/@VERSION@/$version/" -e "s/@LIBS_PRIVATE@/$2/" src/capi/library.pc.in
}

if [ "$1" = uninstall ]; then
  remove
  exit
fi
install -d "$to_lib/pkgconfig" "$to_include"
remove
install -m 644 include/mojo_audio.h include/avatorch_mel.h "$to_include"
install -m 755 "$built/libavatorch_mel.so.$version" "$to_lib"
install -m 644 "$built/libavatorch_mel.a" "$to_lib"
ln -s "libavatorch_mel.so.$version" "$to_lib/$soname"
for name in avatorch_mel mojo_audio; do
  ln -s "$soname" "$to_lib/lib$name.so"
  package "$name" "$4" > "$to_lib/pkgconfig/$name.pc"
done
ln -s libavatorch_mel.a "$to_lib/libmojo_audio.a"
