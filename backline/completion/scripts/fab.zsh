# Completion of `fab` for zsh. Printed by `fab completion.zsh`; belongs after compinit.
_backline_fab() {
    local row tab=$'\t'
    local -a found shown
    for row in ${(f)"$(@PYTHON@ -IS @PROGRAM@ zsh "$LBUFFER" 2>/dev/null)"}; do
        found+=("${row%%$tab*}")
        shown+=("${row/$tab/  -- }")
    done
    (( $#found )) && compadd -l -d shown -a found
}
compdef _backline_fab fab
