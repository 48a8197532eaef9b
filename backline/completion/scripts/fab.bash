# Completion of `fab` for bash. Printed by `fab completion.bash`.
_backline_fab() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(@PYTHON@ -IS @PROGRAM@ bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o nosort -F _backline_fab fab 2>/dev/null || complete -F _backline_fab fab
