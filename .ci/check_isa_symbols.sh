#!/usr/bin/env bash
# Objects compiled for one instruction set must not define weak symbols outside its namespace: the
# linker keeps one copy of such a function for the whole module, perhaps the one with instructions
# that the processor at hand lacks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
checked=0
while IFS= read -r -d '' object; do
  isa=$(sed -E 's|.*/simd_([a-z0-9]+)\.dir/.*|\1|' <<< "$object")
  checked=$((checked + 1))
  leaks=$(nm -C --defined-only "$object" | awk '$2 ~ /^[WVu]$/' | grep -v "deeplab_native::$isa::" || true)
  if [[ -n $leaks ]]; then
    printf '%s defines weak symbols of its own:\n%s\n' "$object" "$leaks" >&2
    status=1
  fi
done < <(find "${1:-build}" -path '*/simd_*.dir/*' -name '*.o' -print0)
if ((checked == 0)); then
  echo "no objects found below ${1:-build}: build the package first" >&2
  exit 1
fi
echo "$checked objects checked"
exit "$status"
