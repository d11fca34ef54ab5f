/** As the clients send them. */
export const payloads = {
  'Claude Code, Write': (cwd: string, path: string) => ({ session_id: 's1', transcript_path: '/t.jsonl', cwd, permission_mode: 'default', hook_event_name: 'PreToolUse', tool_name: 'Write', tool_input: { file_path: path, content: 'x' } }),
  'Claude Code, Edit': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'PreToolUse', tool_name: 'Edit', tool_input: { file_path: path, old_string: 'a', new_string: 'b' } }),
  'Claude Code, MultiEdit': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'PreToolUse', tool_name: 'MultiEdit', tool_input: { file_path: path, edits: [] } }),
  'Claude Code, NotebookEdit': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'PreToolUse', tool_name: 'NotebookEdit', tool_input: { notebook_path: path, new_source: '' } }),
  'Claude Code, Bash': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'PreToolUse', tool_name: 'Bash', tool_input: { command: `echo "$(date -u) x" >> ${path}`, description: 'log' } }),
  'Codex, a line': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'PreToolUse', tool_name: 'Bash', tool_input: { command: `sed -i 's/a/b/' ${path}` } }),
  'Codex, words': (cwd: string, path: string) => ({ session_id: 's1', cwd, tool_name: 'shell', tool_input: { command: ['bash', '-lc', `rm ${path}`] } }),
  'Codex, a patch': (cwd: string, path: string) => ({ session_id: 's1', cwd, tool_name: 'apply_patch', tool_input: { command: `*** Begin Patch\n*** Update File: ${path}\n@@\n-a\n+b\n*** End Patch` } }),
  'Codex, a patch in words': (cwd: string, path: string) => ({ session_id: 's1', cwd, tool_name: 'shell', tool_input: { command: ['apply_patch', `*** Begin Patch\n*** Delete File: ${path}\n*** End Patch`] } }),
  'Gemini CLI, write_file': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'BeforeTool', tool_name: 'write_file', tool_input: { file_path: path, content: 'x' } }),
  'Gemini CLI, replace': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'BeforeTool', tool_name: 'replace', tool_input: { file_path: path, old_string: 'a', new_string: 'b' } }),
  'Gemini CLI, run_shell_command': (cwd: string, path: string) => ({ session_id: 's1', cwd, hook_event_name: 'BeforeTool', tool_name: 'run_shell_command', tool_input: { command: `touch ${path}` } }),
}
