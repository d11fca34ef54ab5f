import { basename, commitUnder, dirname, fs, isLockError, join, LockError, show } from '../core/index.js'
import { keepOwner, textOf } from './edit.js'
import { appendNote, asFileErrors, type HeldFile, holdFile, type HoldOptions, locateFile, openIfThere } from './hold.js'

/** Options of {@link appendLine}. */
export interface AppendOptions extends HoldOptions {
  /**
   * When the file would grow beyond `bytes`, it is renamed to `log.1.md` first (and that to `log.2.md`, …). `keep`: so many of them,
   * the oldest goes; default: all, so that every line is kept.
   */
  rotate?: { bytes: number; keep?: number } | undefined
  /** Wait until the disk has it. Default false. */
  fsync?: boolean | undefined
}

/**
 * Appends one line, stamped with the time in UTC (`2026-11-20T09:00:00Z text`), under the file's lock; gives the line as written.
 * A writer that is killed leaves no part of a line: the next one completes it. A missing file is created; where the lines end in
 * `\r\n`, so does this one.
 *
 * Rejects with `EINVAL` (not a single line), `ELOCKED`, `ENOTACQUIRED` (option `lock`), `ECOMPROMISED`, or the system's code; then nothing
 * was appended, unless only `fsync` failed.
 *
 * @example await appendLine('memory/heartbeat-log.md', 'hourly: shipped the reply', { rotate: { bytes: 100_000 } })
 */
export async function appendLine(file: string, text: string, options: AppendOptions = {}): Promise<string> {
  checkLine('the line', text)
  const { rotate } = options
  if (rotate && !(Number.isInteger(rotate.bytes) && rotate.bytes > 0)) throw new LockError('EINVAL', `rotate.bytes must be a whole number above 0, not ${show(rotate.bytes)}`)
  if (rotate?.keep !== undefined && !(Number.isInteger(rotate.keep) && rotate.keep > 0)) throw new LockError('EINVAL', `rotate.keep must be a whole number above 0, not ${show(rotate.keep)}`)
  return holdFile(file, options, (held) =>
    asFileErrors('append to', held.path, () => {
      const line = `${new Date().toISOString().slice(0, 19)}Z ${text}`
      return append(held, line, options)
    }),
  )
}

/** A text that fits on one line. Throws `EINVAL`. */
export function checkLine(name: string, text: unknown): void {
  if (typeof text !== 'string') throw new LockError('EINVAL', `${name} must be a text, not ${show(text)}`)
  // What some reader takes for the end of a line, and NUL, which turns a text file into a binary one.
  if (/[\0\n\v\f\r\u0085\u2028\u2029]/.test(text)) throw new LockError('EINVAL', `${name} must be a single line; write its parts one by one, or join them: ${show(text)}`)
}

const PAGE = 4_096

async function append(held: HeldFile, line: string, { rotate, fsync = false }: AppendOptions): Promise<string> {
  const { path, locks, besides } = held
  const flags = fs.constants.O_RDWR | fs.constants.O_APPEND | fs.constants.O_CREAT
  let fd = openRegular(path, flags)
  try {
    const owned = fs.fstatSync(fd)
    let { size, text, newline } = textAfter(fd, line)
    if (rotate && size > 0 && size + text.length > rotate.bytes) {
      await commitUnder(locks, () => shift(path, rotate.keep ?? Infinity))
      const next = openRegular(path, flags, owned.mode & 0o777)
      fs.closeSync(fd)
      fd = next
      keepOwner(fd, owned)
      ;({ size, text } = textAfter(fd, line, newline))
    }
    const note = besides(appendNote(size))
    try {
      fs.writeFileSync(note, text, { flag: 'wx', mode: owned.mode & 0o777 })
      await commitUnder(locks, () => writeAll(fd, text, size))
      if (fsync) fs.fsyncSync(fd)
    } finally {
      fs.rmSync(note, { force: true })
    }
    return line
  } finally {
    fs.closeSync(fd)
  }
}

// A person's editor may have left the last line without an end.
function textAfter(fd: number, line: string, usual = '\n'): { size: number; text: Buffer; newline: string } {
  const { size } = fs.fstatSync(fd)
  const end = Buffer.alloc(Math.min(size, PAGE))
  fs.readSync(fd, end, 0, end.length, size - end.length)
  const last = end.lastIndexOf(0x0a)
  const newline = last < 0 ? usual : end[last - 1] === 0x0d ? '\r\n' : '\n'
  const isOpen = last < end.length - 1
  return { size, text: Buffer.from((isOpen ? newline : '') + line + newline), newline }
}

function writeAll(fd: number, text: Buffer, size: number): void {
  let written = 0
  try {
    while (written < text.length) written += fs.writeSync(fd, text, written)
  } catch (error) {
    // A full disk may have taken a part of it; nobody else's text is cut off.
    if (written > 0 && fs.fstatSync(fd).size === size + written) fs.ftruncateSync(fd, size)
    throw error
  }
}

function openRegular(path: string, flags: number, mode = 0o666): number {
  const fd = fs.openSync(path, flags | (fs.constants.O_NONBLOCK ?? 0), mode)
  if (fs.fstatSync(fd).isFile()) return fd
  fs.closeSync(fd)
  throw new LockError('EINVAL', `${path} is not a regular file`, { file: path })
}

/** Where a file goes when it is rotated: `log.md` to `log.1.md`. */
export function archiveOf(path: string, number: number): string {
  const name = basename(path)
  const dot = name.lastIndexOf('.')
  return join(dirname(path), dot > 0 ? `${name.slice(0, dot)}.${number}${name.slice(dot)}` : `${name}.${number}`)
}

/**
 * Renames a file to the first of its archives, and each of those to the next. Killed in between, it leaves a gap, which the next one
 * fills; so nothing is overwritten.
 */
export function shift(path: string, keep: number): void {
  let gap = 1
  while (gap < keep && fs.existsSync(archiveOf(path, gap))) gap++
  for (let number = gap; number > 1; number--) fs.renameSync(archiveOf(path, number - 1), archiveOf(path, number))
  fs.renameSync(path, archiveOf(path, 1))
}

/**
 * The last lines of a file, oldest first, without their ends; lines that were rotated away (`log.1.md`, …) included. Fewer where
 * there are not so many; none where there is no file. A last line without an end counts, unless somebody who holds the lock may just
 * be writing it. Rejects with `EINVAL`, or the system's code.
 *
 * @example for (const line of await tailLines('memory/heartbeat-log.md', 20)) console.log(line)
 */
export async function tailLines(file: string, count = 20, options: HoldOptions = {}): Promise<string[]> {
  if (!Number.isInteger(count) || count < 1) throw new LockError('EINVAL', `count must be a whole number above 0, not ${show(count)}`)
  const { file: path } = await locateFile(file)
  return asFileErrors('read', path, async () => {
    const { lines, isWhole } = lastLines(path, count)
    if (isWhole && (lines.length === count || !hasArchive(path))) return lines
    // Somebody may be writing or rotating right now, or a person has left the last line open.
    try {
      return await holdFile(file, { wait: '1s', ...options }, async () => withArchive(path, count, lastLines(path, count).lines))
    } catch (error) {
      options.signal?.throwIfAborted()
      const isHeld = isLockError(error) && error.code === 'ELOCKED'
      // One more, to have enough without it.
      const now = lastLines(path, count + 1)
      const whole = isHeld && !now.isWhole ? now.lines.slice(0, -1) : now.lines
      return withArchive(path, count, whole.slice(-count))
    }
  })
}

// The first of them may be the gap.
const hasArchive = (path: string) => [1, 2].some((number) => fs.existsSync(archiveOf(path, number)))

function withArchive(path: string, count: number, lines: string[]): string[] {
  let isGap = false
  for (let number = 1; lines.length < count; number++) {
    const archive = archiveOf(path, number)
    const isThere = fs.existsSync(archive)
    // Killed while it shifted them, a process leaves one gap.
    if (!isThere && isGap) break
    isGap = !isThere
    if (isThere) lines = [...lastLines(archive, count - lines.length).lines, ...lines]
  }
  return lines
}

const CHUNK = 65_536

// `isWhole`: the last line has its end.
function lastLines(path: string, count: number): { lines: string[]; isWhole: boolean } {
  const fd = openIfThere(path, fs.constants.O_RDONLY)
  if (fd === undefined) return { lines: [], isWhole: true }
  try {
    const stats = fs.fstatSync(fd)
    if (!stats.isFile()) throw new LockError('EINVAL', `${path} is not a regular file`, { file: path })
    let from = stats.size
    const chunks: Buffer[] = []
    // One end more than lines, to know that the first of them is whole.
    for (let found = 0; from > 0 && found <= count; found += ends(chunks[0]!)) {
      const chunk = Buffer.alloc(Math.min(CHUNK, from))
      from -= chunk.length
      fs.readSync(fd, chunk, 0, chunk.length, from)
      chunks.unshift(chunk)
    }
    const bytes = Buffer.concat(chunks)
    const text = from === 0 ? bytes : bytes.subarray(bytes.indexOf(0x0a) + 1)
    const isWhole = text.length === 0 || text.at(-1) === 0x0a
    const lines = textOf(text, path).split(/\r?\n/)
    if (isWhole) lines.pop()
    return { lines: lines.slice(-count), isWhole }
  } finally {
    fs.closeSync(fd)
  }
}

function ends(bytes: Buffer): number {
  let count = 0
  for (const byte of bytes) if (byte === 0x0a) count++
  return count
}
