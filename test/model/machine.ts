/*
 * The simulated machine: files, clocks and a process table, small enough to be copied at every step.
 *
 * A state is a plain value. `perform` changes one (a fresh copy) by one call of one process and gives the answer that the
 * real `System` would have given.
 */
import type { FileFacts, Instant, Machine, ProcessFacts, System } from '../../lib/core/system.js'
import type { Node } from './process.js'

/** The lock that everybody wants; its guards have `.guard` behind it, as often as their level says. */
export const LOCK = '/shared/queue.md.lock'
const GUARD = '.guard'
/** Levels of names that are simulated: the lock, its guards, and two more than the protocol may ever use. */
export const LEVELS = 8

export type Call =
  | { do: 'create' | 'unlink' | 'lstat'; path: string }
  | { do: 'open'; path: string; writing: boolean }
  | { do: 'read' | 'stat' | 'close'; fd: number }
  | { do: 'write'; fd: number; text: string }
  | { do: 'clock' }
  | { do: 'process'; pid: number }
  /** What `commit` was asked to do. */
  | { do: 'act' }
  /** The end of a process's script. */
  | { do: 'exit' }

/** A seam of which each call is asked for. */
export function systemOf(ask: (call: Call) => unknown, machine: System['machine'], token: System['token']): System {
  return {
    create: (path) => ask({ do: 'create', path }) as number,
    open: (path, writing) => ask({ do: 'open', path, writing }) as number,
    read: (fd) => ask({ do: 'read', fd }) as string,
    write: (fd, text) => void ask({ do: 'write', fd, text }),
    stat: (fd) => ask({ do: 'stat', fd }) as FileFacts,
    close: (fd) => void ask({ do: 'close', fd }),
    unlink: (path) => void ask({ do: 'unlink', path }),
    lstat: (path) => ask({ do: 'lstat', path }) as FileFacts | undefined,
    clock: () => ask({ do: 'clock' }) as Instant,
    process: (pid) => ask({ do: 'process', pid }) as ProcessFacts,
    machine,
    token,
    id: () => {
      throw new Error('the protocol is given ids')
    },
  }
}

/** What a call gave, or the code of the error that it threw. The same answer is the same object. */
export interface Answer {
  value?: unknown
  error?: string
}

/** A regular file. Never changed: a write puts another one in its place. */
export interface File {
  /** A number from `textNumber`. */
  text: number
  mtime: number
  /** Who created it and has not written yet; -1 as soon as it has a text. */
  author: number
}

export type Status = 'running' | 'ended' | 'crashed'

export interface Process {
  status: Status
  /** Where it is; undefined when it is no longer running. */
  node: Node | undefined
  /** Whether it has made a call, other than a local one, in its present operation. */
  acted: boolean
  /** Whether it is in the middle of a write(2). */
  halfway: boolean
  /** What it last wrote went into a file that had no name any more. */
  astray: boolean
  /** Time has jumped since its last step. */
  paused: boolean
  /** Descriptor to number of a file; -1: closed. */
  fds: number[]
  /** Where it was each time it read the clock since its last step that is not local. */
  readings: { node: Node; acted: boolean }[]
}

export interface State {
  boot: number
  wall: number
  fs: number
  jumps: number
  crashes: number
  /** Time has just jumped, nobody has used it yet, and it took no reading back. */
  jumped: boolean
  /** Bits of tokens whose owner has begun to release (or a person has broken) the lock: nobody believes in it any more. */
  ended: number
  files: (File | undefined)[]
  /** Level to number of a file; -1: nothing there. */
  links: number[]
  processes: Process[]
}

/** What does not change while a world is explored. */
export interface Surroundings {
  machines: Machine[]
  /** How far each process's boot clock lags behind the truth, at most `granularityMs`. */
  lags: number[]
  /** Living processes that are not simulated, by pid. Every other pid is dead, or is a simulated process. */
  bystanders: Map<number, ProcessFacts>
  /** Give out inode numbers (the smallest free one, as reused as can be) in place of names for own descriptors. */
  rawIdentities: boolean
  /** Let writes take two steps, so that others read the file torn. */
  torn: boolean
}

export const FIRST_PID = 11
export const pidOf = (p: number) => FIRST_PID + p
export const startOf = (pid: number) => String(pid * 100)

// ---- texts ----

const numbers = new Map<string, number>()
const texts: string[] = []

export function textNumber(text: string): number {
  let number = numbers.get(text)
  if (number === undefined) {
    number = texts.length
    texts.push(text)
    numbers.set(text, number)
  }
  return number
}

export const textOf = (number: number) => texts[number]!
export const EMPTY = textNumber('')

// ---- names ----

const levels = new Map<string, number>()
export const pathOf = (level: number) => LOCK + GUARD.repeat(level)
for (let level = 0; level < LEVELS; level++) levels.set(pathOf(level), level)

export function levelOf(path: string): number {
  const level = levels.get(path)
  if (level === undefined) throw new Error(`outside of the simulated names: ${path}`)
  return level
}

// ---- states ----

/** A copy of which process `p`, or each, may be changed. */
export function copyOf(state: State, p?: number): State {
  // Written out: this is what the search does most, and a spread takes several times as long.
  const { boot, wall, fs, jumps, crashes, jumped, ended, files, links } = state
  const processes = state.processes.slice()
  for (let q = p ?? 0; q < (p === undefined ? processes.length : p + 1); q++) {
    const { status, node, acted, halfway, astray, paused, fds, readings } = processes[q]!
    processes[q] = { status, node, acted, halfway, astray, paused, fds: fds.slice(), readings: readings.slice() }
  }
  return { boot, wall, fs, jumps, crashes, jumped, ended, files: files.slice(), links: links.slice(), processes }
}

export function fileAt(state: State, level: number): File | undefined {
  const number = state.links[level]!
  return number < 0 ? undefined : state.files[number]
}

/** Ends a process: its descriptors close, its pid is dead. */
export function end(state: State, p: number, status: Status): void {
  const process = state.processes[p]!
  process.status = status
  process.node = undefined
  process.acted = false
  process.halfway = false
  process.astray = false
  process.paused = false
  process.fds = []
  process.readings = []
  for (const [number, file] of state.files.entries()) if (file?.author === p) state.files[number] = { ...file, author: -1 }
  collect(state)
}

// A file without a name and without a descriptor is no more, and its number is free.
function collect(state: State): void {
  for (let number = 0; number < state.files.length; number++) {
    if (state.links.includes(number) || state.processes.some(({ fds }) => fds.includes(number))) continue
    state.files[number] = undefined
  }
  while (state.files.length > 0 && state.files.at(-1) === undefined) state.files.pop()
}

// ---- calls ----

const answers = new Map<unknown, Answer>()

function same(key: unknown, make: () => Answer): Answer {
  let answer = answers.get(key)
  if (!answer) answers.set(key, (answer = make()))
  return answer
}

const DONE: Answer = {}
const failure = (code: string) => same(code, () => ({ error: code }))
const opened = (fd: number) => same(fd, () => ({ value: fd }))
export const looked = (facts: ProcessFacts) => same(facts, () => ({ value: facts }))
const texted: Answer[] = []
export const read = (text: number) => (texted[text] ??= { value: textOf(text) })

/** Makes one call of process `p`. `undefined`: the call is not over yet, the process stays where it is. */
export function perform(state: State, p: number, call: Call, around: Surroundings): Answer | undefined {
  const process = state.processes[p]!
  switch (call.do) {
    case 'create': {
      const level = levelOf(call.path)
      if (state.links[level]! >= 0) return failure('EEXIST')
      let number = state.files.indexOf(undefined)
      if (number < 0) number = state.files.length
      state.files[number] = { text: EMPTY, mtime: state.fs, author: p }
      state.links[level] = number
      return opened(newDescriptor(process, number))
    }
    case 'open': {
      const number = state.links[levelOf(call.path)]!
      return number < 0 ? failure('ENOENT') : opened(newDescriptor(process, number))
    }
    case 'read': {
      const { text } = state.files[process.fds[call.fd]!]!
      return read(text)
    }
    case 'write': {
      const number = process.fds[call.fd]!
      const before = state.files[number]!
      const halfway = around.torn && !process.halfway
      // As write(2) does: the time first, then byte after byte.
      const text = halfway ? torn(call.text, textOf(before.text)) : call.text
      state.files[number] = { text: textNumber(text), mtime: state.fs, author: halfway ? before.author : -1 }
      process.halfway = halfway
      return halfway ? undefined : DONE
    }
    case 'stat': {
      const number = process.fds[call.fd]!
      return facts(state, process, number, around)
    }
    case 'lstat': {
      const number = state.links[levelOf(call.path)]!
      return number < 0 ? DONE : facts(state, process, number, around)
    }
    case 'close':
      process.fds[call.fd] = -1
      while (process.fds.at(-1) === -1) process.fds.pop()
      collect(state)
      return DONE
    case 'unlink': {
      const level = levelOf(call.path)
      if (state.links[level]! < 0) return failure('ENOENT')
      state.links[level] = -1
      collect(state)
      return DONE
    }
    case 'clock': {
      const value: Instant = { boot: state.boot - around.lags[p]!, wall: state.wall }
      return same(`clock ${value.boot} ${value.wall}`, () => ({ value }))
    }
    case 'process': {
      return looked(lookUp(state, call.pid, around))
    }
    case 'act':
      return DONE
    case 'exit':
      throw new Error('an end is not a call')
  }
}

function newDescriptor(process: Process, number: number): number {
  let fd = process.fds.indexOf(-1)
  if (fd < 0) fd = process.fds.length
  process.fds[fd] = number
  return fd
}

// An identity is only ever compared with that of a file which the same process holds open; so "the file of my descriptor 0" or
// "another one" says all that can be told, and states that differ in numbers only are one.
function facts(state: State, process: Process, number: number, around: Surroundings): Answer {
  const { mtime } = state.files[number]!
  const fd = process.fds.indexOf(number)
  const identity = around.rawIdentities ? `inode ${number}` : fd < 0 ? 'another' : `fd ${fd}`
  return same(`${identity} ${mtime}`, () => ({ value: { regular: true, mtimeMs: mtime, identity } satisfies FileFacts }))
}

const DEAD: ProcessFacts = { exists: false }
const living = new Map<number, ProcessFacts>()

/** A living process, always as the same object. */
export function alive(pid: number): ProcessFacts {
  let facts = living.get(pid)
  if (!facts) living.set(pid, (facts = { exists: true, start: startOf(pid), zombie: false, threads: [pid] }))
  return facts
}

function lookUp(state: State, pid: number, around: Surroundings): ProcessFacts {
  const simulated = state.processes[pid - FIRST_PID]
  if (simulated) return simulated.status === 'running' ? alive(pid) : DEAD
  return around.bystanders.get(pid) ?? DEAD
}

/** Half of the new text over the old one, cut in the middle of where they first differ. */
function torn(text: string, old: string): string {
  if (old === '') return text.slice(0, 40)
  const mark = text.indexOf('"bootMs":')
  let from = mark < 0 ? 0 : mark + 9
  while (from < text.length && text[from] === old[from]) from++
  return text.slice(0, from + 1) + old.slice(from + 1)
}

const errors = new Map<string, Error>()

/** As `node:fs` throws it. */
export function systemError(code: string): Error {
  let error = errors.get(code)
  if (!error) errors.set(code, (error = Object.assign(new Error(`${code}: simulated`), { code, syscall: 'simulated', errno: -1 })))
  return error
}
