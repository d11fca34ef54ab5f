/*
 * For tests that run side by side: a folder and processes that belong to one test and end with it, and the means to put a
 * process where it sees another machine than we do (namespaces, clocks, users). What a machine cannot do skips the test, with
 * the reason.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Stamp } from 'lockpact'
import { test as base } from 'vitest'
import { distUrl, sleep } from './support.js'

/** A Node process with the package's names (and `fs`, `Worker`, `sleep`, `dist`) as globals, that evaluates what it is asked. */
export interface Remote {
  /** As it sees itself: another number in another pid namespace. */
  pid: number
  process: ChildProcess
  /** The value of an expression there, which may `await`; what it assigns to stays for the next. Rejects with its error's facts. */
  ask(expression: string): Promise<any>
  /** Sends a signal to it, not to what it is wrapped in, and waits until it has ended. Only for processes in our pid namespace. */
  kill(): Promise<void>
}

export interface RemoteOptions {
  cwd?: string
  env?: Record<string, string>
  /** Another command in front. */
  wrap?: string[]
  /** Another copy of the package. */
  dist?: string
}

interface Scene {
  /** A new empty folder, without symbolic links in its path. */
  folder: string
  /** Starts a process in `folder`. */
  node(options?: RemoteOptions): Promise<Remote>
  /** Starts any command, and gives its pid. */
  command(...words: string[]): ChildProcess & { pid: number }
}

export const test = base.extend<Scene>({
  folder: async ({}, use) => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'lockpact-')))
    await use(folder)
    // A process that was just killed may still be creating a file.
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  },
  node: async ({ folder }, use) => {
    const remotes: Remote[] = []
    await use(async (options = {}) => {
      const remote = await startRemote({ cwd: folder, ...options })
      remotes.push(remote)
      return remote
    })
    await Promise.all(remotes.map(end))
  },
  command: async ({}, use) => {
    const children: ChildProcess[] = []
    await use((...words) => {
      const child = spawn(words[0]!, words.slice(1), { stdio: 'ignore' })
      children.push(child)
      return child as ChildProcess & { pid: number }
    })
    for (const child of children) child.kill('SIGKILL')
  },
})

/** Whatever is wrapped ends when its stdin does, and then its wrapper clears up; who is stopped or busy has to be killed. */
async function end({ process: child }: Remote): Promise<void> {
  const running = () => child.exitCode === null && child.signalCode === null
  if (running()) {
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.stdin!.end()
    await Promise.race([exited, sleep(1_000)])
    if (running()) child.kill('SIGKILL')
    await exited
  }
  // A killed `faketime` leaves these, and the next process of that number could not start.
  for (const left of ['faketime_shm_', 'sem.faketime_sem_']) rmSync(`/dev/shm/${left}${child.pid}`, { force: true })
}

async function startRemote({ cwd, env, wrap = [], dist = distUrl }: RemoteOptions): Promise<Remote> {
  const script = `
    import * as fs from 'node:fs'
    import { createInterface } from 'node:readline'
    import { Worker } from 'node:worker_threads'
    import * as lockpact from ${JSON.stringify(dist)}
    Object.assign(globalThis, lockpact, { fs, Worker, dist: ${JSON.stringify(dist)}, sleep: (ms) => new Promise((done) => setTimeout(done, ms)) })
    const AsyncFunction = (async () => {}).constructor
    const answer = (what) => process.stdout.write(JSON.stringify(what) + '\\n')
    const facts = ({ name, message, code, file, verdict, holder, retryAfterMs }) => ({ name, message, code, file, verdict, holder, retryAfterMs })
    createInterface({ input: process.stdin }).on('close', () => process.exit()).on('line', async (line) => {
      const { n, expression } = JSON.parse(line)
      try {
        answer({ n, value: await new AsyncFunction('return (' + expression + ')')() })
      } catch (error) {
        answer({ n, error: facts(error) })
      }
    })`
  const words = [...wrap, process.execPath, '--input-type=module', '-e', script]
  const child = spawn(words[0]!, words.slice(1), { cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
  const open = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>()
  let stdout = ''
  let stderr = ''
  let over: Error | undefined
  const end = (error: Error) => {
    over = error
    for (const { reject } of open.values()) reject(error)
  }
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (stdout + text).split('\n')
    stdout = lines.pop()!
    for (const line of lines) {
      const { n, value, error } = JSON.parse(line) as { n: number; value?: unknown; error?: object }
      if (error) open.get(n)?.reject(Object.assign(new Error(), error))
      else open.get(n)?.resolve(value)
      open.delete(n)
    }
  })
  child.stdin.on('error', () => {}) // it has ended: `exit` says so
  child.on('error', end).on('exit', (code, signal) => end(new Error(`the process ended (${signal ?? code}); stderr: ${stderr}`)))
  let asked = 0
  const ask = (expression: string) =>
    new Promise<any>((resolve, reject) => {
      if (over) return reject(over)
      open.set(++asked, { resolve, reject })
      child.stdin.write(`${JSON.stringify({ n: asked, expression })}\n`)
    })
  const pid: number = await ask('process.pid')
  return {
    pid,
    process: child,
    ask,
    async kill() {
      process.kill(pid, 'SIGKILL')
      await ask('0').catch(() => {})
    },
  }
}

// ---- the stamp in a lock file ----

export function stampOf(lockFile: string): Stamp {
  return JSON.parse(readFileSync(lockFile, 'utf8')) as Stamp
}

/** Changes a stamp by hand, as no holder would. */
export function forge(lockFile: string, change: Partial<Stamp>): void {
  writeFileSync(lockFile, JSON.stringify({ ...stampOf(lockFile), ...change }))
}

/** Makes a file so old, as a person would in a shell. */
export function age(path: string, seconds: number): void {
  // Of `10 minutes 50 seconds ago` only the seconds would be ago.
  execFileSync('touch', ['--no-dereference', '-d', `${seconds} seconds ago`, path])
}

// ---- processes as the kernel shows them ----

/** `R`, `S`, `T`, `Z` …, or undefined when there is no such process. */
export function stateOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2)[0]
  } catch {
    return undefined
  }
}

/** Our number for the process that a wrapper started in another pid namespace. */
export function innerPid({ process: { pid } }: Remote): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1'))
}

// ---- what a machine may not be able to do ----

/** Whether a command succeeds here: root, a feature of the kernel, or a package may be missing. */
export function works(...words: string[]): boolean {
  try {
    execFileSync(words[0]!, words.slice(1), { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

export const inPidNamespace = ['unshare', '--pid', '--fork', '--kill-child']
export const inPidNamespaceWithProc = [...inPidNamespace, '--mount-proc']
/** The boot clock, seconds ahead. */
export const inTimeNamespace = (seconds: number) => ['unshare', '--time', '--boottime', String(seconds), '--fork', '--kill-child']
export const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
/** Wall clock moved: `'+3h'`. */
export const inFakeTime = (offset: string) => ['faketime', '-f', offset]

const missing = (can: boolean, what: string) => (can ? '' : what)
export const lacks = {
  pidNamespaces: missing(works(...inPidNamespaceWithProc, 'true'), 'needs root and unshare --pid'),
  timeNamespaces: missing(works(...inTimeNamespace(1), 'true'), 'needs root, unshare --time and Linux 5.6'),
  hiddenProcesses: missing(works('unshare', '-m', 'mount', '-t', 'proc', '-o', 'hidepid=2', 'proc', '/proc'), 'needs root, unshare -m and a /proc that takes hidepid=2'),
  nobody: missing(works(...asNobody, process.execPath, '-e', '0'), 'needs root, setpriv, and a Node that others may run'),
  faketime: missing(works('faketime', '-f', '+1h', 'true'), 'needs the package faketime'),
}
// Not every reporter tells why a test was skipped.
for (const reason of Object.values(lacks)) if (reason !== '') console.log(`tests are skipped here: ${reason}`)
