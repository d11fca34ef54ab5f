/*
 * What the tests share: temporary folders, and child processes that use the built package. Tests of the public names import
 * `lockpact` (dist, as shipped); tests of the protocol's insides import from `lib`.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, onTestFinished } from 'vitest'

export const projectFolder = join(import.meta.dirname, '..')
export const distUrl = pathToFileURL(join(projectFolder, 'dist/index.js')).href
export const commandPath = join(projectFolder, 'dist/cli/main.js')

/** A new empty folder (without symbolic links in its path), removed after the test. */
export function tempFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'lockpact-')))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export interface Child {
  process: ChildProcess
  pid: number
  /** Resolves with the next line of stdout that has not been read yet; rejects when the child ends first. */
  line(): Promise<string>
  /** Everything on stdout and stderr so far. */
  out(): string
  err(): string
  /** How it ended. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

const children = new Set<ChildProcess>()
afterEach(() => {
  for (const child of children) child.kill('SIGKILL')
  children.clear()
})

/**
 * Starts a Node process that runs `body` as an async ES module with the package's names in scope, and `say(line)` for stdout.
 * `wrap` puts another command in front (`['faketime', '-f', '+3h']`).
 */
export function startNode(body: string, options: { cwd?: string; env?: Record<string, string>; wrap?: string[]; nodeArgs?: string[]; dist?: string } = {}): Child {
  const script = `import * as lockpact from ${JSON.stringify(options.dist ?? distUrl)}
const { acquireLock, acquireLockSync, withLock, inspectLock, renewLock, releaseLock, breakLock, sweepLocks, LockError, isLockError } = lockpact
const say = (line) => process.stdout.write(line + '\\n')
${body}`
  const command = [...(options.wrap ?? []), process.execPath, ...(options.nodeArgs ?? []), '--input-type=module', '-e', script]
  return start(command, options)
}

/** Starts any command. */
export function start(command: string[], options: { cwd?: string; env?: Record<string, string> } = {}): Child {
  const child = spawn(command[0]!, command.slice(1), { cwd: options.cwd, env: { ...process.env, ...options.env }, stdio: ['pipe', 'pipe', 'pipe'] })
  children.add(child)
  let out = ''
  let err = ''
  let read = 0
  let wake = () => {}
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
    wake()
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  let over = false
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      over = true
      wake()
      resolve({ code, signal })
    })
  })
  ended.catch(() => {})
  const line = async (): Promise<string> => {
    for (;;) {
      const end = out.indexOf('\n', read)
      if (end >= 0) {
        const text = out.slice(read, end)
        read = end + 1
        return text
      }
      if (over) throw new Error(`the child ended without another line; stderr: ${err}`)
      await new Promise<void>((resolve) => (wake = resolve))
    }
  }
  return { process: child, pid: child.pid!, line, out: () => out, err: () => err, ended }
}

/** For a shell: whether a process lives; kill(1) finds zombies that nobody has waited for yet. */
export const livesInShell = (pid: string | number) => `grep -q '^State:[[:space:]]*[^ZX[:space:]]' /proc/${pid}/status 2>/dev/null`

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Waits until `check` is true; fails after `ms`. */
export async function until(check: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  const end = Date.now() + ms
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${String(check)}`)
    await sleep(10)
  }
}

/** Whether a command is there; a test that needs one and has it not says so and is skipped. */
export function has(command: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

export const isRoot = process.getuid?.() === 0

/** Runs the command, in no session and in no workspace but the folder's own. */
export function lockpact(folder: string, args: string[], { env = {}, input = '' }: { env?: Record<string, string>; input?: string } = {}) {
  const { LOCKPACT_SESSION, LOCKPACT_DIR, LOCKPACT_SLOT, TOOL_INPUT, CLAUDE_CODE_SESSION_ID, ...outer } = process.env
  const { status, stdout, stderr } = spawnSync(process.execPath, [commandPath, ...args], { cwd: folder, encoding: 'utf8', input, env: { ...outer, ...env } })
  return { status, stdout, stderr, json: () => JSON.parse(stdout) as Record<string, any>, token: stdout.split('\n')[0]! }
}

/** A folder that is a workspace. */
export function workspaceFolder(): string {
  const folder = tempFolder()
  mkdirSync(join(folder, '.lockpact'))
  return folder
}

/** What the workspace has written down, without the times. */
export function eventsOf(folder: string): Record<string, unknown>[] {
  const path = join(folder, '.lockpact/events.jsonl')
  return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>) : []
}
