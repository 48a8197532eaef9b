# Completion of `fab` for fish. Printed by `fab completion.fish`.
function __backline_fab
    @PYTHON@ -IS @PROGRAM@ fish (commandline --current-process --cut-at-cursor | string collect) 2>/dev/null
end
complete --command fab --no-files --keep-order --arguments '(__backline_fab)'
