import type { Stats } from 'node:fs'

// Through `import`, fs and crypto would bring in all their lazy parts: three milliseconds at every start.
export const fs = process.getBuiltinModule('node:fs')
export const { basename, dirname, isAbsolute, join, parse, relative, resolve, sep } = process.getBuiltinModule('node:path')
const { hostname, uptime } = process.getBuiltinModule('node:os')

/**
 * Every way in which the protocol touches the machine. The interface is closed: `protocol.ts` and `liveness.ts` call
 * nothing else, so a test can put a simulated machine here, record the calls, and suspend a process by throwing at one
 * (then every further call must throw the same, lest a `finally` block go on).
 *
 * Calls throw the errors of `node:fs`; their `code` is what counts.
 */
export interface System {
  /** open(2) with O_CREAT | O_EXCL, for writing. */
  create(path: string): number
  /** open(2), never through a symbolic link, never blocking (a FIFO has no writer). */
  open(path: string, forWriting: boolean): number
  /** The text from the start of the file: enough of it to see that it is too long for a stamp. */
  read(fd: number): string
  /** Writes the whole text at the start of the file, or throws. */
  write(fd: number, text: string): void
  stat(fd: number): FileFacts
  close(fd: number): void
  unlink(path: string): void
  /** Facts of a path itself, not of what a link points to; undefined when there is nothing. */
  lstat(path: string): FileFacts | undefined
  /** Both clocks at one moment. */
  clock(): Instant
  /** Where this process is. */
  machine(): Machine
  /** What is known about a process that would be in sight. */
  process(pid: number): ProcessFacts
  /** A new secret, and its public half. */
  token(): string
  id(token: string): string
}

/** Milliseconds: of the boot clock (counts sleep, unmoved by clock steps), and of the wall clock (moved by both). */
export interface Instant {
  boot: number
  wall: number
}

export interface FileFacts {
  regular: boolean
  mtimeMs: number
  /** Tells two files apart only while one of them is held open: inode numbers are given out again. */
  identity: string
}

export interface Machine {
  boot?: string | undefined
  pidns?: string | undefined
  timens?: string | undefined
  host: string
  /** This thread of this process; undefined when /proc is not that of our pid namespace. */
  self?: { pid: number; start?: string | undefined; tid?: number } | undefined
  /** How far `Instant.boot` may lag behind the truth. It never runs ahead. */
  granularityMs: number
}

export interface ProcessFacts {
  exists: boolean
  start?: string | undefined
  zombie?: boolean | undefined
  threads?: number[] | undefined
}

const isLinux = process.platform === 'linux'
const { O_CREAT, O_EXCL, O_WRONLY, O_RDONLY, O_RDWR, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = fs.constants
const READ_BYTES = 2048
const buffer = Buffer.allocUnsafe(READ_BYTES)

export const system: System = {
  create: (path) => retrying(() => fs.openSync(path, O_CREAT | O_EXCL | O_WRONLY, 0o644)),
  open: (path, forWriting) => retrying(() => fs.openSync(path, (forWriting ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK)),
  read: (fd) => buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, READ_BYTES, 0)),
  write(fd, text) {
    const bytes = Buffer.byteLength(text)
    // A full disk may take a part of it.
    if (fs.writeSync(fd, text, 0) < bytes)
      throw Object.assign(new Error('ENOSPC: only a part was written'), { code: 'ENOSPC', syscall: 'write' })
  },
  stat: (fd) => factsOf(fs.fstatSync(fd)),
  close: (fd) => fs.closeSync(fd),
  unlink: (path) => retrying(() => fs.unlinkSync(path)),
  lstat(path) {
    const stats = fs.lstatSync(path, { throwIfNoEntry: false })
    return stats && factsOf(stats)
  },
  clock,
  machine: () => here ?? findMachine(),
  process: findProcess,
  token: () => crypto().randomUUID(),
  id: (token) => sha256(token).slice(0, 16),
}

/** Sleeps without spinning, and without the event loop. */
export function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

function factsOf(stats: Stats): FileFacts {
  return { regular: stats.isFile(), mtimeMs: stats.mtimeMs, identity: `${stats.dev}:${stats.ino}` }
}

// On Windows a name that is being deleted, or looked at by a virus scanner, refuses for a moment.
function retrying<T>(call: () => T): T {
  if (process.platform !== 'win32') return call()
  for (let tries = 1; ; tries++) {
    try {
      return call()
    } catch (error) {
      if (tries === 20 || !['EPERM', 'EBUSY', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      sleepSync(5)
    }
  }
}

// The one call is three times faster; Bun and Deno do not have it everywhere.
function sha256(text: string): string {
  const { hash, createHash } = crypto()
  return hash ? hash('sha256', text, 'hex') : createHash('sha256').update(text).digest('hex')
}

export function crypto() {
  return process.getBuiltinModule('node:crypto')
}

// ---- the clocks ----

// /proc/uptime is the same for every process and runtime, counts sleep, and ignores clock steps. Reading it costs, so it is
// read once and followed with the monotonic clock (which does not count sleep), until that and the wall clock part.
let anchor: { boot: number; monotonic: number; wall: number } | undefined
const PARTED_MS = 20
// /proc/uptime counts hundredths; a reading takes at most BRACKET_MS; sleep shorter than PARTED_MS goes unnoticed.
const BRACKET_MS = 5
const GRANULARITY_MS = isLinux ? 50 : 1100

function clock(): Instant {
  const monotonic = performance.now()
  const wall = Date.now()
  if (!anchor || Math.abs(wall - anchor.wall - (monotonic - anchor.monotonic)) > PARTED_MS) {
    try {
      anchor = readBootClock()
    } catch (error) {
      if (!anchor) throw error
      // No descriptor is free, so nobody is judged; a lease ends rather too early.
      return { boot: Math.floor(anchor.boot + Math.max(monotonic - anchor.monotonic, wall - anchor.wall)), wall }
    }
  }
  // Every step rounds down: a judge is never ahead of the truth, and an owner allows for lagging behind it.
  return { boot: Math.max(0, Math.floor(anchor.boot + (performance.now() - anchor.monotonic))), wall }
}

function readBootClock() {
  for (;;) {
    const before = performance.now()
    const boot = uptimeMs()
    const wall = Date.now()
    const monotonic = performance.now()
    // Interrupted between the readings: they do not belong together.
    if (monotonic - before <= BRACKET_MS) return { boot, monotonic, wall }
  }
}

function uptimeMs(): number {
  try {
    if (isLinux) return Number.parseFloat(fs.readFileSync('/proc/uptime', 'latin1')) * 1000
  } catch (error) {
    // No /proc: machine() then has no boot id, and nobody compares this number with another process's.
    if (fs.existsSync('/proc/uptime')) throw error
  }
  return uptime() * 1000
}

// ---- the process table ----

let here: Machine | undefined

function findMachine(): Machine {
  const host = hostname().slice(0, 64)
  const granularityMs = GRANULARITY_MS
  const { pid } = process
  if (!isLinux) {
    // The name alone never proves identity; the boot time makes it one boot of one machine.
    const boot = `${host}@${Math.round(Date.now() / 1000 - uptime())}`
    return (here = { boot, pidns: process.platform, timens: process.platform, host, self: { pid }, granularityMs })
  }
  try {
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
    const place = { boot, pidns: namespace('pid'), timens: namespace('time'), host, granularityMs }
    // Seen from the /proc of an outer pid namespace we have several pids, and our neighbours' mean others there.
    if (!/^NSpid:\t\d+$/m.test(fs.readFileSync('/proc/self/status', 'latin1'))) return (here = place)
    const { start } = findProcess(pid)
    if (start === undefined) return { host, granularityMs }
    return (here = { ...place, self: { pid, start, tid: Number(basename(fs.readlinkSync('/proc/thread-self'))) } })
  } catch {
    // No /proc, or no descriptor is free: perhaps the next time.
    return { host, granularityMs }
  }
}

function namespace(kind: string): string {
  try {
    return fs.readlinkSync(`/proc/self/ns/${kind}`).replace(/\D/g, '')
  } catch {
    return 'none' // a kernel before 5.6 has no time namespaces
  }
}

function findProcess(pid: number): ProcessFacts {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it exists and belongs to somebody else.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return { exists: false }
  }
  if (!isLinux) return { exists: true }
  try {
    // Field 2, the name, may hold blanks and parentheses; field 3 is the state, 22 the start.
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const zombie = fields[0] === 'Z' || fields[0] === 'X'
    const start = fields[19]
    return {
      exists: true,
      zombie,
      ...(start !== undefined && { start }),
      threads: fs.readdirSync(`/proc/${pid}/task`).map(Number),
    }
  } catch {
    return { exists: true } // hidden (hidepid), or gone since: the next look will tell
  }
}
