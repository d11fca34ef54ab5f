import { fs, relative } from '../core/index.js'
import { type Command, EXIT } from './command.js'

export const command: Command = {
  usage: 'guard',
  about:
    'A hook for coding agents, before a tool is used: reads its JSON from stdin, and stops (exit status 2, one sentence on stderr) a write to a ' +
    'file that somebody else holds or has declared. The own session’s locks let it through; whatever is unclear passes. ' +
    'LOCKPACT_BYPASS=1 lets everything through, and is logged.',
  operands: [0, 0],
  options: {},
  examples: [`echo '{"tool_name":"Write","tool_input":{"file_path":"memory/queue.md"}}' | lockpact guard`],
  notes: ['2 stopped'],

  async run(_operands, _values, io) {
    const call = callIn(await readInput())
    if (!call) return 0
    const { work, root } = await workspaceAt(call.cwd)
    // A line of a million parentheses.
    const paths = await writesOf(call).catch(() => [])
    const session = process.env['LOCKPACT_SESSION'] || call.session || work.sessionOf()
    const disturbed = await work.whomDisturbs(root, paths, session)
    if (!disturbed) return 0
    const { path, against, why } = disturbed
    const isBypassed = process.env['LOCKPACT_BYPASS'] === '1'
    if (root !== undefined) work.logEvent(root, { type: isBypassed ? 'bypassed' : 'refused', what: relative(root, path), by: session ?? null, against, why: 'guard' })
    if (isBypassed) return 0
    io.warn(why)
    return EXIT.blocked
  },
}

async function readInput(): Promise<string> {
  try {
    return fs.readFileSync(0, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return ''
    // A pipe that does not block.
    let text = ''
    for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk as string
    return text
  }
}

interface Call {
  tool: string
  input: Record<string, unknown>
  cwd: string
  session: string | undefined
}

/** The tools that write, by the names that they have in Claude Code, Codex and Gemini CLI. */
const EDITS = new Set(['Write', 'Edit', 'MultiEdit', 'NotebookEdit', 'write_file', 'replace', 'apply_patch'])
const SHELLS = new Set(['Bash', 'shell', 'local_shell', 'shell_command', 'exec_command', 'run_shell_command'])
const MAX_BYTES = 4_000_000

// Undefined: nothing that is known to write. What cannot be read never blocks.
function callIn(text: string): Call | undefined {
  try {
    if (text.length > MAX_BYTES) return undefined
    const { tool_name: tool, tool_input: input, cwd, session_id: session } = JSON.parse(text) as Record<string, unknown>
    if (typeof tool !== 'string' || typeof input !== 'object' || input === null || !(EDITS.has(tool) || SHELLS.has(tool))) return undefined
    return { tool, input: input as Call['input'], cwd: textOr(cwd) ?? process.cwd(), session: textOr(session) }
  } catch {
    return undefined
  }
}

const textOr = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)

// The workspace is looked for from where the agent is.
async function workspaceAt(cwd: string) {
  try {
    process.chdir(cwd)
  } catch {
    // It is gone, or another machine's.
  }
  const work = await import('../work/index.js')
  try {
    return { work, root: work.findWorkspaceIfAny(undefined) }
  } catch {
    return { work, root: undefined }
  }
}

async function writesOf({ tool, input, cwd }: Call): Promise<string[]> {
  const { resolve } = await import('../core/index.js')
  const at = (path: string) => resolve(cwd, path)
  const patch = textOr(input['command']) ?? textOr(input['input']) ?? textOr(input['patch'])
  if (tool === 'apply_patch') return patchedIn(patch ?? '').map(at)
  if (EDITS.has(tool)) return [textOr(input['file_path']) ?? textOr(input['notebook_path']) ?? textOr(input['path']) ?? []].flat().map(at)
  const line = lineIn(input)
  if (line === undefined) return []
  // Codex sends its patches through the shell, too.
  if (line.startsWith('apply_patch')) return patchedIn(line).map(at)
  const shell = await import('./shell.js')
  const folder = textOr(input['workdir']) ?? textOr(input['directory']) ?? textOr(input['dir_path'])
  const isFolder = (path: string) => fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
  return shell.writesOf(line, folder === undefined ? cwd : at(folder), process.env['HOME'], isFolder)
}

// `["bash", "-lc", "…"]` is a line, other lists of words are not.
function lineIn(input: Call['input']): string | undefined {
  const command = input['command'] ?? input['cmd']
  if (!Array.isArray(command)) return textOr(command)
  const [shell, option, line] = command as unknown[]
  if (command.length === 3 && /^(.*\/)?(ba|z|da)?sh$/.test(String(shell)) && /^-l?c$/.test(String(option))) return textOr(line)
  return command[0] === 'apply_patch' ? `apply_patch ${String(command[1])}` : undefined
}

function patchedIn(patch: string): string[] {
  return [...patch.matchAll(/^\*\*\* (?:Add File|Update File|Delete File|Move to): (.+?)\r?$/gm)].map((match) => match[1]!)
}
