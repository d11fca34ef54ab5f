import { fileURLToPath } from 'node:url'
import { dirname, fs, join, LockError, machineError, quoted, relative, resolve, systemCode, workspace } from '../core/index.js'
import { textOf, updateFile } from '../files/index.js'
import { FOLDER, initWorkspace } from '../work/index.js'
import { type Edit, marksOf, putBlock, updateBlock } from './block.js'
import type { Command } from './command.js'
import { addHooks } from './hooks.js'

export const command: Command = {
  usage: 'init [DIR] [options]',
  about:
    'Makes DIR (default: what --dir or LOCKPACT_DIR says, else the current folder) a workspace: .lockpact/, the files of memory/, marked ' +
    'sections in CONTRIBUTING.md, AGENTS.md and .gitignore, hooks and a skill for Claude Code, and hooks for Gemini CLI and Codex where ' +
    '.gemini and .codex are. What is there stays; only a section between its lockpact marks, and hooks that are missing, are brought up ' +
    'to date. Can be run again. Prints what it did, and crontab lines for DIR.',
  operands: [0, 1],
  options: { 'dry-run': { about: 'only tell what it would do' } },
  examples: ['lockpact init', 'lockpact init agents --dry-run', 'lockpact init --json'],

  async run([given], values, io) {
    const isDry = values['dry-run'] === true
    const files: Step[] = []
    let dir = given ?? process.env['LOCKPACT_DIR'] ?? '.'
    try {
      if (given === undefined) refuseNested()
      const made = makeWorkspace(dir, isDry)
      dir = made.dir
      files.push({ path: `${FOLDER}/`, did: made.created ? 'created' : 'kept' })
      for (const target of TARGETS.filter(({ isFor }) => isFor?.(dir) ?? true)) files.push(await bring(dir, target, isDry))
      const crontab = crontabFor(dir)
      const missing = missingFor(dir)
      io.print({ dir, dryRun: isDry, files, crontab, missing, templates: TEMPLATES }, [table(files, isDry), nextSteps(dir, crontab, missing, files)].join('\n\n'))
      return 0
    } catch (error) {
      if (!io.json) io.print({}, table(files, isDry))
      return io.fail(error, { dir, dryRun: isDry, files })
    }
  },
}

// Two jobs that use two workspaces do not coordinate at all.
function refuseNested(): void {
  if (process.env['LOCKPACT_DIR']) return
  let above: string
  try {
    above = workspace()
  } catch {
    return
  }
  if (above === process.cwd()) return
  throw new LockError('EINVAL', `this folder is in the workspace ${above}: lockpact init ${quoted(above)} brings that up to date; for one of its own: lockpact init .`)
}

function makeWorkspace(dir: string, isDry: boolean): { dir: string; created: boolean } {
  if (!isDry) return initWorkspace(dir)
  const folder = join(resolve(dir), FOLDER)
  const found = fs.statSync(folder, { throwIfNoEntry: false })
  if (found && !found.isDirectory()) throw new LockError('EEXIST', `${folder} is not a folder: move it away, and run lockpact init again`, { file: folder })
  return { dir: resolve(dir), created: !found }
}

// ---- files ----

const TEMPLATES = fileURLToPath(new URL('../../templates/', import.meta.url))
const template = (name: string) => fs.readFileSync(join(TEMPLATES, name), 'utf8')

interface Target {
  path: string
  /** Only in such a folder. */
  isFor?(dir: string): boolean
  /** Undefined: there is no such file. */
  edit(text: string | undefined, dir: string): Edit
}

interface Step {
  path: string
  did: 'created' | 'updated' | 'kept' | 'left'
  why?: string
}

const NOTES = ['README.md', 'contribution-queue.md', 'todo.md', 'heartbeat-log.md', 'heartbeat-prompt.md', 'agent-notes.md']
const SKILL = 'skills/lockpact/SKILL.md'
const CODEX = '.codex/hooks.json'
/** The templates of the hooks, by where they go. */
const HOOKS: Record<string, string> = {
  '.claude/settings.json': 'claude-settings.json',
  '.gemini/settings.json': 'gemini-settings.json',
  [CODEX]: 'codex-hooks.json',
}

const TARGETS: Target[] = [
  ...NOTES.map((name) => ({ path: `memory/${name}`, edit: (text: string | undefined) => (text === undefined ? { text: template(`memory/${name}`) } : {}) })),
  { path: 'CONTRIBUTING.md', edit: (text) => putBlock(text, template('CONTRIBUTING.md'), marksOf('convention')) },
  { path: 'AGENTS.md', edit: (text) => putBlock(text, template('AGENTS.md'), marksOf('agents')) },
  { path: '.gitignore', edit: (text) => putBlock(text, template('gitignore'), { begin: '# lockpact', end: '# /lockpact' }) },
  hooksAt('.claude/settings.json'),
  { path: `.claude/${SKILL}`, edit: editSkill },
  { ...hooksAt('.gemini/settings.json'), isFor: (dir) => isFolder(join(dir, '.gemini')) },
  { ...hooksAt(CODEX), isFor: (dir) => isFolder(join(dir, '.codex')) },
]

function hooksAt(path: string): Target {
  return { path, edit: (text, dir) => addHooks(text, hooksFor(dir, HOOKS[path]!)) }
}

function isFolder(path: string): boolean {
  return fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

function editSkill(text: string | undefined): Edit {
  const whole = template(SKILL)
  const { begin, end } = marksOf('skill')
  const body = whole.split(`${begin}\n`)[1]!.split(end)[0]!
  return text === undefined ? { text: whole } : (updateBlock(text, body, { begin, end }) ?? {})
}

async function bring(dir: string, { path, edit }: Target, isDry: boolean): Promise<Step> {
  const file = join(dir, path)
  const before = read(file)
  let wanted = edit(before, dir)
  let isNew = before === undefined
  // Without taking its lock when there is nothing to change.
  if (wanted.text !== undefined && !isDry)
    await updateFile(
      file,
      (text, exists) => {
        isNew = !exists
        wanted = edit(exists ? text : undefined, dir)
        return wanted.text
      },
      { owner: 'lockpact init' },
    )
  const { text, left } = wanted
  if (left !== undefined) return { path, did: 'left', why: left }
  return { path, did: text === undefined ? 'kept' : isNew ? 'created' : 'updated' }
}

function read(file: string): string | undefined {
  try {
    return textOf(fs.readFileSync(file), file)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw machineError('read', { file }, error)
  }
}

// ---- words ----

function shown(name: string): string {
  const path = relative(process.cwd(), join(TEMPLATES, name))
  return path.startsWith('..') ? join(TEMPLATES, name) : path
}

function table(files: Step[], isDry: boolean): string {
  const toDo = (path: string) => (path in HOOKS ? `; add the hooks of ${shown(HOOKS[path]!)}` : '')
  const rows = files.map(({ path, did, why }) => `${did.padEnd(8)} ${path}${why === undefined ? '' : `: ${why}${toDo(path)}`}`)
  return [...(isDry ? ['dry run, nothing is changed:'] : []), ...rows].join('\n')
}

function nextSteps(dir: string, crontab: string[], missing: string[], files: Step[]): string {
  const isNew = ({ path, did }: Step) => path === CODEX && (did === 'created' || did === 'updated')
  return [
    ...(missing.includes('lockpact') ? [notInstalled(dir), ''] : []),
    ...(files.some(isNew) ? [`Codex skips the hooks of ${CODEX} without a word until you have trusted the folder and, by /hooks, them.`, ''] : []),
    'Next: put work into memory/contribution-queue.md, look through memory/heartbeat-prompt.md, and add these lines by crontab -e',
    `(what each word is for: ${shown('crontab')}; or, in place of them, jobs that can be changed and paused: ${shown('jobs.md')}):`,
    '',
    ...crontab,
    '',
    `They start claude -p (Claude Code${missing.includes('claude') ? ', which is not on your PATH' : ''}); for another agent, put its command behind the --, and its folder into PATH.`,
    `For Hermes: ${shown('hermes-gate.sh')}. For Phantom: ${shown('phantom.md')}. For agents that speak MCP: ${shown('mcp.md')}.`,
  ].join('\n')
}

// npx asks nobody where there is no terminal.
function notInstalled(dir: string): string {
  const source = PACKAGE.includes('/node_modules/') ? 'what you have it from' : quoted(PACKAGE)
  return `lockpact is not installed in ${dir}: run npm install ${source} there, or else the hooks and these lines fail, and npx lockpact is whatever the registry has by that name.`
}

// ---- where the commands are ----

const PACKAGE = dirname(TEMPLATES)
const BIN = 'node_modules/.bin'
const LAUNCHER = `${BIN}/lockpact`

/** Where lockpact is installed for this folder: in it, or in the nearest above. */
function binFor(dir: string): string | undefined {
  for (let folder = dir; ; folder = dirname(folder)) {
    if (fs.existsSync(join(folder, LAUNCHER))) return join(folder, BIN)
    if (folder === dirname(folder)) return undefined
  }
}

/** How a crontab line in this folder starts lockpact; undefined: it is not installed. */
function launcherFor(dir: string): string | undefined {
  const bin = binFor(dir)
  if (bin !== undefined) return bin === join(dir, BIN) ? LAUNCHER : quoted(join(bin, 'lockpact'))
  return foldersOf('lockpact').length > 0 ? 'lockpact' : undefined
}

/** What the crontab lines start and is not there. */
function missingFor(dir: string): string[] {
  return [...(launcherFor(dir) === undefined ? ['lockpact'] : []), ...(foldersOf('claude').length === 0 ? ['claude'] : [])]
}

/** The hooks of a template. They are kept with the project, so their path is relative. */
function hooksFor(dir: string, name: string): string {
  return template(name).replaceAll(BIN, relative(dir, binFor(dir) ?? join(dir, BIN)))
}

/** The lines of the template for this folder and this machine. */
function crontabFor(dir: string): string[] {
  const lines = template('crontab').split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const launcher = launcherFor(dir) ?? LAUNCHER
  const tools = foldersOf('node', 'claude', ...(launcher === 'lockpact' ? [launcher] : []))
  // To cron, % is the end of the line.
  const escaped = (words: string) => words.replaceAll('%', '\\%')
  const pathFor = (line: string) => `PATH=${[...new Set([...tools, ...line.slice('PATH='.length).split(':')])].join(':')}`
  const jobFor = (line: string) => line.replace('"$HOME/project"', () => escaped(quoted(dir))).replace(LAUNCHER, () => escaped(launcher))
  return lines.map((line) => (line.startsWith('PATH=') ? pathFor(line) : jobFor(line)))
}

/** Where a shell finds these commands, apart from what npx has put in front. */
function foldersOf(...commands: string[]): string[] {
  const folders = (process.env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/') && !folder.includes('/node_modules/'))
  return commands.flatMap((command) => folders.find((folder) => fs.existsSync(join(folder, command))) ?? [])
}
