import {
  acquireLock,
  basename,
  commitUnder,
  dirname,
  type Duration,
  fs,
  type Held,
  idOf,
  inspectLock,
  join,
  locate,
  LockError,
  type LockEvent,
  machineError,
  type Place,
  show,
  sweepOne,
  systemCode,
} from '../core/index.js'

/** What every change of a file takes. */
export interface HoldOptions {
  /** How long to wait for the file's lock. Default `'10s'`; `0`: refuse at once; `Infinity`. */
  wait?: Duration | undefined
  /** A label for people, in the lock. */
  owner?: string | undefined
  /**
   * The lock of this file that is held already, by this process or (its token) by one that works together with it. The change then
   * goes on under it, and takes the inner lock `<lock file>.inner`, so that two at once still exclude each other.
   */
  lock?: { token: string; lockFile?: string } | undefined
  /** Stops the waiting. */
  signal?: AbortSignal | undefined
  /** Told what happens to the lock. */
  onEvent?: ((event: LockEvent) => void) | undefined
}

/** A file whose lock is held. */
export interface HeldFile {
  /** Without symbolic links. */
  path: string
  /** The lock that was taken, and that under which it was taken. */
  locks: Held[]
  /** The name of a file beside it that only this holder writes. */
  besides(suffix: string): string
}

const DEFAULT_WAIT = '10s'

/**
 * Runs `work` while the file's lock is held, and releases it in all cases. What a dead predecessor left beside the file is cleared
 * away first. Rejects with `ELOCKED`, `ENOTACQUIRED` (the given lock is not the holder's), `EINVAL`, or the system's code.
 */
export async function holdFile<T>(file: string, options: HoldOptions & { lockTtl?: Duration }, work: (held: HeldFile) => Promise<T>): Promise<T> {
  const { wait = DEFAULT_WAIT, owner, lock, signal, onEvent, lockTtl } = options
  const place = await locateFile(file)
  const path = place.file
  const outer = lock && { ...place, token: lock.token, lockFile: lock.lockFile ?? place.lockFile }
  if (outer) checkHeld(outer, place)
  // By the path that was found: a link may lead elsewhere by now.
  const own = await acquireLock(path, {
    wait,
    ...(lockTtl !== undefined && { ttl: lockTtl }),
    ...(owner !== undefined && { owner }),
    ...(signal && { signal }),
    ...(onEvent && { onEvent }),
    ...(outer && { lockFile: `${outer.lockFile}.inner` }),
  })
  try {
    const held = { path, locks: outer ? [own, outer] : [own], besides: (suffix: string) => join(dirname(path), `.${basename(path)}.${own.id}${suffix}`) }
    await asFileErrors('change', path, () => clearAway(held, outer !== undefined))
    return await work(held)
  } finally {
    // If it cannot be released now, that goes on in the background.
    await own.release().catch(() => {})
  }
}

/** Where a file is, and its lock. Rejects with `EINVAL` for what has no text of its own, or the system's code. */
export async function locateFile(file: string): Promise<Place> {
  const place = await asFileErrors('find', show(file), () => locate(file))
  if (`${place.file}.lock` === place.lockFile) return place
  throw new LockError('EINVAL', `${show(file)} is not a file; a part and a free name have no text of their own`)
}

function checkHeld({ file, token, lockFile }: Held, place: Place): void {
  const { stamp } = inspectLock(file, { lockFile })
  const isOfFile = lockFile.startsWith(place.lockFile) && /^(\.inner)*$/.test(lockFile.slice(place.lockFile.length))
  if (!isOfFile || stamp?.id !== idOf(token)) throw new LockError('ENOTACQUIRED', `the given lock does not hold ${file}`, { file, holder: stamp })
}

// ---- what a dead predecessor left ----

const SUFFIX = /^\.([0-9a-f]{16})(?:\.tmp|\.(\d+)\.add)$/

// Everything of this shape belongs to somebody who is dead, or has lost the lock and will find so before it changes anything: unless
// we have lost it ourselves, and these are our successor's.
async function clearAway({ path, locks, besides }: HeldFile, isNested: boolean): Promise<void> {
  const [folder, name] = [dirname(path), basename(path)]
  const left: { path: string; size: string | undefined }[] = []
  for (const found of fs.readdirSync(folder)) {
    if (!isNested && found.startsWith(`${name}.lock.inner`)) sweepOne(join(folder, found))
    const [, id, size] = (found.startsWith(`.${name}.`) && SUFFIX.exec(found.slice(name.length + 1))) || []
    if (id !== undefined && !besides('').endsWith(id)) left.push({ path: join(folder, found), size })
  }
  if (left.length === 0) return
  await commitUnder(locks, () => {
    for (const { path: leftover, size } of left) {
      if (size !== undefined) finishAppend(path, leftover, Number(size))
      fs.rmSync(leftover, { force: true })
    }
  })
}

/** Where an append is noted before it is made: the text, and in the name the size that the file has before. */
export const appendNote = (size: number) => `.${size}.add`

// Killed in the middle of write(2), it has left a part of its text: the rest is added.
function finishAppend(path: string, note: string, size: number): void {
  const text = readIfThere(note)
  if (text === undefined) return
  const fd = openIfThere(path, fs.constants.O_RDWR | fs.constants.O_APPEND)
  if (fd === undefined) return
  try {
    const written = fs.fstatSync(fd).size - size
    if (written <= 0 || written >= text.length) return
    const there = Buffer.alloc(written)
    fs.readSync(fd, there, 0, written, size)
    if (!there.equals(text.subarray(0, written))) return
    // A full disk takes a part of it, and throws at the next: then the note stays.
    for (let at = written; at < text.length; ) at += fs.writeSync(fd, text, at)
  } finally {
    fs.closeSync(fd)
  }
}

// Who has lost the lock takes its note away itself.
function readIfThere(path: string): Buffer | undefined {
  const fd = openIfThere(path, fs.constants.O_RDONLY)
  if (fd === undefined) return undefined
  try {
    return fs.readFileSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** Undefined when there is no such file. Never waits for the other end of a FIFO. */
export function openIfThere(path: string, flags: number): number | undefined {
  try {
    return fs.openSync(path, flags | (fs.constants.O_NONBLOCK ?? 0))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

/** Does something with a file; the machine's errors become ours. */
export async function asFileErrors<T>(doing: string, path: string, call: () => T | Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw machineError(doing, { file: path }, error)
  }
}
