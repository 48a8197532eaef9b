# Completion of `fab` for zsh. Printed by `fab completion.zsh`; belongs after compinit.
_backline_fab() {
    local -a found
    found=(${(f)"$(@PYTHON@ -IS @PROGRAM@ zsh "$LBUFFER" 2>/dev/null)"})
    (( $#found )) && _describe -V -t fab fab found
}
compdef _backline_fab fab
