import { acquireLockSync, checkPath, fs, isAbsolute, join, locate, LockError, type LockEvent, machineError, nameLock, relative, resolve, sep, show, systemCode, workspace } from '../core/index.js'
import { archiveOf, replaceFile, shift, textOf } from '../files/index.js'

/*
 * A workspace: the folder with `.lockpact/` in it, which keeps
 *
 *     slots.json, intents.json       documents: one line for each entry, a `rev` that counts their changes
 *     events.jsonl, events.1.jsonl   what happened; the newest last
 *     jobs.json                      the same for jobs, which cannot be begun anew
 *     config.json                    a person's; only read
 *     locks/                         lock files of free names
 */

export const FOLDER = '.lockpact'

/** What {@link initWorkspace} did. */
export interface Workspace {
  /** Absolute, without symbolic links. */
  dir: string
  created: boolean
}

/**
 * Makes a folder a workspace: creates `.lockpact/` in it, with a `.gitignore` of its own. Harmless where there is one.
 * Throws the system's code.
 *
 * @example initWorkspace('.')
 */
export function initWorkspace(dir: string): Workspace {
  checkPath('dir', dir)
  const folder = join(resolve(dir), FOLDER)
  try {
    const created = fs.mkdirSync(folder, { recursive: true }) !== undefined
    const ignore = join(folder, '.gitignore')
    if (!fs.existsSync(ignore)) fs.writeFileSync(ignore, '# The state of one machine.\n*\n')
    return { dir: fs.realpathSync.native(resolve(dir)), created }
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw new LockError('EEXIST', `${folder} is not a folder: move it away, and run lockpact init again`, { file: folder, cause: error })
    throw machineError('make a workspace of', { file: dir }, error)
  }
}

/** The same, where one is not needed: undefined when there is none. A folder that is named and is none is still an error. */
export function findWorkspaceIfAny(dir: string | undefined): string | undefined {
  if (dir !== undefined || process.env['LOCKPACT_DIR']) return findWorkspace(dir)
  try {
    return findWorkspace(undefined)
  } catch {
    return undefined
  }
}

/** The workspace of a call: `dir`, else `LOCKPACT_DIR`, else the nearest above the working folder. Throws `EINVAL` when there is none. */
export function findWorkspace(dir: string | undefined): string {
  const root = dir === undefined ? workspace() : resolve(checkPath('dir', dir))
  return asWorkErrors('look for the workspace', root, () => {
    if (!fs.statSync(join(root, FOLDER), { throwIfNoEntry: false })?.isDirectory())
      throw new LockError('EINVAL', `${root} is no workspace, it has no ${FOLDER} folder: run lockpact init there`)
    return fs.realpathSync.native(root)
  })
}

/** Does something with a path; the machine's errors become ours. */
export function asWorkErrors<T>(doing: string, path: string, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw machineError(doing, { file: path }, error)
  }
}

/**
 * A path as the documents keep it: relative to the workspace, with slashes, without links and dots. A relative one is relative to
 * `dir` where that is given, else to the working folder. Throws `EINVAL` for what is outside.
 */
export function pathIn(root: string, path: unknown, dir: string | undefined): string {
  const text = checkPath('a path of writes', path)
  const isName = text.startsWith('name:')
  const { file } = asWorkErrors('find', show(text), () => (isName ? locate(text, nameLock(root, text)) : locate(dir === undefined || isAbsolute(text) ? text : resolve(dir) + sep + text)))
  if (isName) return file
  const inside = relative(root, file)
  if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside))
    throw new LockError('EINVAL', `${show(text)} is outside of the workspace ${root}`)
  return inside === '' ? '.' : inside.replaceAll(sep, '/')
}

/** The settings of `config.json`. Throws `EINVAL` when it cannot be read as such. */
export function readConfig(root: string): { policy?: unknown } {
  const path = join(root, FOLDER, 'config.json')
  let text: string
  try {
    text = fs.readFileSync(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return {}
    throw machineError('read', { file: path }, error)
  }
  try {
    const config: unknown = JSON.parse(text)
    if (typeof config === 'object' && config !== null && !Array.isArray(config)) return config
  } catch (error) {
    throw new LockError('EINVAL', `${path} is not JSON: ${(error as Error).message}`, { file: path })
  }
  throw new LockError('EINVAL', `${path} must hold one JSON object`, { file: path })
}

// ---- documents ----

/** Which document, and what its entries look like. */
export interface Kind<E extends object> {
  name: string
  /** Its path in the folder without `.json`, where that is not its name. */
  file?: string
  /** Of a new file. Default: what the umask leaves. */
  mode?: number
  isEntry(value: object): boolean
  /** Of what cannot be begun anew: it is on the disk when a change is over, and never moved aside; when it is damaged, this is thrown. */
  damaged?(path: string, bytes: Buffer): LockError
  /** Never in there; for the type. */
  example?: E
}

/** The documents are small and everybody's: who is suspended with one of their locks is soon followed. */
const WAITING = { wait: '15s', lockTtl: '5s', fsync: false, isOurs: true } as const

/** The entries as they are now, without waiting for anybody. A damaged document is dealt with when it is changed. */
export function readDocument<E extends object>(root: string, kind: Kind<E>): E[] {
  const path = pathOf(root, kind)
  let bytes: Buffer
  try {
    // The other end of a FIFO may never come.
    if (fs.statSync(path).isFIFO()) throw new LockError('EINVAL', `${path} is not a regular file`, { file: path })
    bytes = fs.readFileSync(path)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw machineError('read', { file: path }, error)
  }
  const document = parse(bytes, path, kind)
  if (!document && kind.damaged) throw kind.damaged(path, bytes)
  return document?.entries ?? []
}

/** The same for whoever wants to see them: a damaged document is an error, not an empty one. */
export function listDocument<E extends object>(root: string, kind: Kind<E>): E[] {
  const damaged = (file: string) => new LockError('EINVAL', `${file} is damaged: the next change moves it aside, and begins it anew`, { file })
  return readDocument(root, { ...kind, damaged })
}

/**
 * Changes a document in one step: `decide` gives its new entries, or undefined to leave them. One that cannot be parsed is moved
 * aside and begun anew.
 */
export async function changeDocument<E extends object>(root: string, kind: Kind<E>, decide: (entries: E[]) => E[] | undefined): Promise<void> {
  let refusal: unknown
  await replaceFile(
    pathOf(root, kind),
    (bytes, path) => {
      const document = bytes === undefined ? NEW : parse(bytes, path, kind)
      if (!document && kind.damaged) throw kind.damaged(path, bytes!)
      if (!document) moveAside(root, kind.name, path, bytes!)
      const before = (document ?? NEW) as Document<E>
      let after: E[] | undefined
      try {
        after = decide(before.entries)
      } catch (error) {
        refusal = error
      }
      // What was moved aside is replaced in any case.
      return after || !document ? format(before, after ?? [], kind) : undefined
    },
    { ...WAITING, mode: kind.mode, fsync: kind.damaged !== undefined },
  )
  if (refusal !== undefined) throw refusal
}

interface Document<E> {
  rev: number
  entries: E[]
  /** An entry that nobody changes is written as it was read. */
  lines?: string[] | undefined
}

const NEW: Document<never> = { rev: 0, entries: [] }

function format<E extends object>({ rev, entries, lines }: Document<E>, after: E[], { name }: Kind<E>): string {
  let at = 0
  const body = after.map((entry) => {
    const found = lines ? entries.indexOf(entry, at) : -1
    if (found < 0) return JSON.stringify(entry)
    at = found + 1
    return lines![found]
  })
  return `{"v":1,"rev":${rev + 1},"${name}":[\n${body.join(',\n')}${body.length > 0 ? '\n' : ''}]}\n`
}

// Undefined when it is damaged.
function parse<E extends object>(bytes: Buffer, path: string, kind: Kind<E>): Document<E> | undefined {
  let document: { v?: unknown; rev?: unknown; entries?: unknown; lines?: string[] }
  try {
    const text = textOf(bytes, path)
    document = parseLines(text, kind.name) ?? parseAny(text, kind.name)
  } catch {
    return undefined
  }
  const { v, rev, entries } = document
  if (typeof v === 'number' && v > 1) throw new LockError('EINVAL', `${path} was written by a newer lockpact (version ${v}); upgrade this one`, { file: path })
  const isSound = v === 1 && Number.isInteger(rev) && Array.isArray(entries) && entries.every((entry) => typeof entry === 'object' && entry !== null && kind.isEntry(entry))
  return isSound ? (document as Document<E>) : undefined
}

// As we write it: an entry a line, which is kept. Undefined for an empty one, and for what somebody has formatted otherwise.
function parseLines(text: string, name: string) {
  const [head, rev, named] = /^\{"v":1,"rev":(\d+),"(\w+)":\[\n/.exec(text) ?? []
  if (named !== name || !text.endsWith(TAIL)) return undefined
  const lines = text.slice(head!.length, -TAIL.length).split(',\n')
  try {
    return { v: 1, rev: Number(rev), entries: lines.map((line): unknown => JSON.parse(line)), lines }
  } catch {
    return undefined
  }
}

const TAIL = '\n]}\n'

function parseAny(text: string, name: string) {
  const { v, rev, [name]: entries } = JSON.parse(text) as Record<string, unknown>
  return { v, rev, entries }
}

function pathOf<E extends object>(root: string, { name, file = name }: Kind<E>): string {
  return join(root, FOLDER, `${file}.json`)
}

function moveAside(root: string, name: string, path: string, bytes: Buffer): void {
  const aside = `${path}.corrupt-${new Date().toISOString().replaceAll(':', '')}`
  try {
    fs.writeFileSync(aside, bytes)
  } catch (error) {
    fs.rmSync(aside, { force: true })
    throw error
  }
  logEvent(root, { type: 'damaged', what: name, why: `moved to ${aside}` })
  process.emitWarning(`${path} could not be parsed; it was moved to ${aside}, and begun anew`, { code: 'LOCKPACT_DAMAGED' })
}

// ---- events ----

/** A line of `events.jsonl`. */
export interface WorkEvent {
  /**
   * | type | who (`by`) … whom (`against`) |
   * | --- | --- |
   * | `skipped` | was not let through a gate, because of whom |
   * | `refused` | did not get a lock, or came too late with the end of a run |
   * | `conflict`, `queued`, `warned` | declared writes that overlap: was refused, has to wait, was let in |
   * | `recovered` | follows somebody who died or whose time ran out |
   * | `lost` | lost what it had |
   * | `broken` | broke whose lock |
   * | `held`, `waited` | had something, or waited for it, for longer than a second |
   * | `bypassed` | wrote in spite of the guard |
   * | `job` | changed a job, or ran it: `why` says what |
   * | `damaged` | a document could not be parsed |
   */
  type: 'skipped' | 'refused' | 'conflict' | 'queued' | 'warned' | 'recovered' | 'lost' | 'broken' | 'held' | 'waited' | 'bypassed' | 'job' | 'damaged'
  /** `slot:KEY`, `job:ID`, a path, or the name of a document. */
  what: string
  by?: string | null
  against?: string | null
  why?: string | null
  /** Milliseconds: waited, or held. */
  ms?: number
  until?: string | null
  /** What its author changed of a job. */
  changed?: Record<string, { before: unknown; after: unknown }>
}

/** Holds and waits that are longer are events. */
export const HELD_LONG_MS = 1_000

/** What happened to a lock, as an event of the workspace, if there is one and it is worth a line. For `onEvent`; never throws. */
export function logLockEvent(root: string | undefined, { type, file, owner, holder, ms = 0 }: LockEvent): void {
  if (root === undefined) return
  const about = { what: nameIn(root, file), by: owner ?? null }
  const against = holder?.owner ?? null
  if (type === 'refused') logEvent(root, { type, ...about, against, why: holder?.reason ?? null, ms })
  else if (type === 'acquired') {
    if (holder) logEvent(root, { type: 'recovered', ...about, against })
    if (ms > HELD_LONG_MS) logEvent(root, { type: 'waited', ...about, ms })
  }
  else if (type === 'lost') logEvent(root, { type, ...about, ms })
  else if (type === 'released' && ms > HELD_LONG_MS) logEvent(root, { type: 'held', ...about, ms })
}

/** A file as events name it: relative where it is inside of the workspace. */
export function nameIn(root: string, file: string): string {
  const inside = relative(root, file)
  return !isAbsolute(file) || inside === '' || inside.startsWith('..') || isAbsolute(inside) ? file : inside.replaceAll(sep, '/')
}

const MAX_EVENT_BYTES = 1_000_000
const KEEP_EVENTS = 2

/** Adds a line to `events.jsonl`. Never throws: what it tells of must go on. */
export function logEvent(root: string, event: WorkEvent): void {
  const path = join(root, FOLDER, 'events.jsonl')
  try {
    const { O_RDWR, O_APPEND, O_CREAT, O_NONBLOCK } = fs.constants
    const fd = fs.openSync(path, O_RDWR | O_APPEND | O_CREAT | (O_NONBLOCK ?? 0), 0o644)
    try {
      const { size } = fs.fstatSync(fd)
      // Somebody was killed in the middle of a line: it ends here, and readers leave it out.
      const last = Buffer.alloc(1)
      const isTorn = size > 0 && fs.readSync(fd, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a
      fs.writeSync(fd, `${isTorn ? '\n' : ''}${JSON.stringify({ at: new Date().toISOString(), ...event, pid: process.pid })}\n`)
      if (size > MAX_EVENT_BYTES) rotateEvents(path)
    } finally {
      fs.closeSync(fd)
    }
  } catch {
    // A full disk, a read-only folder.
  }
}

// Who has it open already writes into what is `events.1.jsonl` by then.
function rotateEvents(path: string): void {
  const lock = acquireLockSync(path, { owner: 'rotation', ttl: '10s' })
  try {
    if (fs.statSync(path).size > MAX_EVENT_BYTES) shift(path, KEEP_EVENTS)
  } finally {
    lock.release()
  }
}

/** All events of a workspace that are kept, the oldest first. A line that is no event is left out. Throws `EINVAL`, or the system's code. */
export function readEvents(dir?: string): (WorkEvent & { at: string; pid: number })[] {
  const path = join(findWorkspace(dir), FOLDER, 'events.jsonl')
  const files = [path, ...Array.from({ length: KEEP_EVENTS }, (_, index) => archiveOf(path, index + 1))]
  const texts = new Map<string, string>()
  // The newest first: a file that is rotated away meanwhile is met again, not missed.
  asWorkErrors('read', path, () => files.forEach((file) => readOnce(file, texts)))
  return [...texts.values()].reverse().flatMap((text) => text.split('\n').flatMap(eventIn))
}

function readOnce(file: string, texts: Map<string, string>): void {
  let fd: number
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return
    throw error
  }
  try {
    const { dev, ino } = fs.fstatSync(fd)
    if (!texts.has(`${dev}:${ino}`)) texts.set(`${dev}:${ino}`, fs.readFileSync(fd, 'utf8'))
  } finally {
    fs.closeSync(fd)
  }
}

function eventIn(line: string): (WorkEvent & { at: string; pid: number })[] {
  try {
    const event = JSON.parse(line) as WorkEvent & { at: string; pid: number }
    return typeof event.at === 'string' && typeof event.type === 'string' && typeof event.what === 'string' ? [event] : []
  } catch {
    return []
  }
}
