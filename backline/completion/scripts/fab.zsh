#compdef fab
# Completion of `fab` for zsh. Printed by `fab completion.zsh`.
_backline_fab() {
    local row
    local -a found shown
    for row in ${(f)"$(@PYTHON@ -IS @PROGRAM@ zsh "$LBUFFER" 2>/dev/null)"}; do
        found+=("${row%%$'\t'*}")
        shown+=("${row/$'\t'/  -- }")
    done
    (( $#found )) && compadd -l -d shown -a found
}
compdef _backline_fab fab
