import type { BigIntStats } from 'node:fs'
import { commitUnder, crypto, dirname, type Duration, fs, LockError, show } from '../core/index.js'
import { asFileErrors, type HeldFile, holdFile, type HoldOptions, openIfThere } from './hold.js'

/** Options of {@link updateFile}. */
export interface UpdateOptions extends HoldOptions {
  /** SHA-256 (hex) of the text that the change was made for; a missing file has that of the empty text. */
  ifHash?: string | undefined
  /** Wait until the disk has it. Default true. */
  fsync?: boolean | undefined
}

/** What {@link updateFile} did. */
export interface Updated {
  /** Absolute, without symbolic links. */
  file: string
  text: string
  /** SHA-256 of the text, in hex. */
  hash: string
  /** False when the text was the same already, and nothing was written. */
  changed: boolean
}

/**
 * Reads a text file, changes it, and replaces it in one step, under its lock: whoever reads it sees the old text or the new one, also
 * when this process is killed. The mode is kept, symbolic links are followed, a missing file is created.
 *
 * `change` gets the text (empty when there is no file) and whether there is one; it gives the new text, or undefined to leave the file
 * as it is. What it throws is passed on, and nothing is changed.
 *
 * Rejects with `ELOCKED` (somebody has it), `ESTALE` (not the text of `ifHash`; or somebody wrote to it without its lock meanwhile),
 * `ECOMPROMISED` (the lock was lost meanwhile), `EINVAL` (no text file), or the system's code. Then nothing is changed.
 *
 * @example
 * await updateFile('memory/roster.md', (text) => text.replace('- [ ] presence', '- [x] presence'), { owner: 'hourly' })
 */
export async function updateFile(file: string, change: (text: string, exists: boolean) => string | undefined | Promise<string | undefined>, options: UpdateOptions = {}): Promise<Updated> {
  if (typeof change !== 'function') throw new LockError('EINVAL', 'updateFile needs a function that gives the new text: updateFile(file, (text) => …)')
  const { ifHash } = options
  if (ifHash !== undefined && !/^[0-9a-f]{64}$/.test(ifHash)) throw new LockError('EINVAL', `ifHash must be 64 hex digits, not ${show(ifHash)}`)
  let before = ''
  let after: string | undefined
  let changed = false
  let thrown: { error: unknown } | undefined
  const path = await replaceFile(
    file,
    async (bytes, path) => {
      before = textOf(bytes, path)
      if (ifHash !== undefined && ifHash !== hashOf(before))
        throw new LockError('ESTALE', `${path} is not what you have read: its hash is ${hashOf(before)}; read it again`, { file: path })
      try {
        after = await change(before, bytes !== undefined)
      } catch (error) {
        thrown = { error }
        throw error
      }
      if (after !== undefined && typeof after !== 'string') throw new LockError('EINVAL', `the new text must be a text, not ${show(after)}`)
      changed = after !== undefined && (bytes === undefined || after !== before)
      return after
    },
    options,
  ).catch((error: unknown) => {
    // Theirs as it is, also when it is the machine's.
    throw thrown ? thrown.error : error
  })
  const text = after ?? before
  return { file: path, text, hash: hashOf(text), changed }
}

/** SHA-256 of a text, in hex, as {@link updateFile} compares it; the same as `sha256sum` prints for the file. */
export function hashOf(text: string): string {
  return crypto().createHash('sha256').update(text).digest('hex')
}

interface ReplaceOptions extends HoldOptions {
  fsync?: boolean | undefined
  lockTtl?: Duration
  /** Of a new file. */
  mode?: number | undefined
  /** Nobody writes it without its lock: its times tell enough. */
  isOurs?: boolean
}

/**
 * The same with bytes, without hashes; gives the path. `change` gets undefined when there is no file; an unchanged text is not written.
 */
export function replaceFile(file: string, change: (bytes: Buffer | undefined, path: string) => string | undefined | Promise<string | undefined>, options: ReplaceOptions): Promise<string> {
  return holdFile(file, options, (held) =>
    asFileErrors('change', held.path, async () => {
      const before = read(held.path)
      const { bytes } = before
      const text = await change(bytes, held.path)
      const next = text === undefined ? undefined : Buffer.from(text)
      if (next && !bytes?.equals(next)) await replace(held, next, before, options)
      return held.path
    }),
  )
}

const { isAscii, isUtf8 } = process.getBuiltinModule('node:buffer')

/** Bytes as a text. Throws `EINVAL` rather than lose what is not UTF-8. */
export function textOf(bytes: Buffer | undefined, path: string): string {
  if (bytes === undefined) return ''
  // A registry of megabytes is read ten times as fast; a TextDecoder costs more than all the rest of a small change.
  if (isAscii(bytes)) return bytes.toString('latin1')
  if (isUtf8(bytes)) return bytes.toString()
  throw new LockError('EINVAL', `${path} is not UTF-8 text; it was left as it is`, { file: path })
}

interface Owned {
  mode: number
  uid: number
  gid: number
}

interface Facts extends Owned {
  mtimeMs: number
  /** Changes with every write, but for one of the same length in the same tick. */
  version: string | undefined
}

/** What was read; nothing when there is no file. */
interface Before {
  bytes?: Buffer
  facts?: Facts
}

function read(path: string): Before {
  const fd = openIfThere(path, fs.constants.O_RDONLY)
  if (fd === undefined) return {}
  try {
    const stats = fs.fstatSync(fd)
    if (!stats.isFile()) throw new LockError('EINVAL', `${path} is not a regular file${stats.isDirectory() ? ' but a folder' : ''}`, { file: path })
    const { mode, uid, gid, mtimeMs } = stats
    const version = versionOf(fs.fstatSync(fd, { bigint: true }))
    return { bytes: fs.readFileSync(fd), facts: { mode, uid, gid, mtimeMs, version } }
  } finally {
    fs.closeSync(fd)
  }
}

function versionOf(stats: BigIntStats | undefined): string | undefined {
  return stats && `${stats.ino} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`
}

/** What a file system's times may be off by. */
const COARSE_MS = 2_000

async function replace({ path, locks, besides }: HeldFile, text: Buffer, { bytes, facts }: Before, { fsync = true, mode = 0o666, isOurs = false }: ReplaceOptions): Promise<void> {
  const next = besides('.tmp')
  let isFresh = false
  try {
    const fd = fs.openSync(next, 'wx', facts ? facts.mode & 0o777 : mode)
    try {
      if (facts) keepOwner(fd, facts)
      fs.writeFileSync(fd, text)
      // Then its time does not prove that nobody wrote since.
      isFresh = !isOurs && facts !== undefined && fs.fstatSync(fd).mtimeMs - facts.mtimeMs < COARSE_MS
      if (fsync) fs.fsyncSync(fd)
    } finally {
      fs.closeSync(fd)
    }
    await commitUnder(locks, () => {
      const isAsRead = versionOf(fs.statSync(path, { bigint: true, throwIfNoEntry: false })) === facts?.version
      if (!isAsRead || (isFresh && !bytes!.equals(fs.readFileSync(path))))
        throw new LockError('ESTALE', `somebody wrote to ${path} without its lock while it was being changed; nothing was changed, try again`, { file: path })
      fs.renameSync(next, path)
    })
  } catch (error) {
    fs.rmSync(next, { force: true })
    throw error
  }
  if (fsync) syncFolder(dirname(path))
}

/** Gives a new file the mode and, as far as this process may, the owner of the one that it takes the place of. */
export function keepOwner(fd: number, { mode, uid, gid }: Owned): void {
  const { uid: ours, gid: group } = fs.fstatSync(fd)
  const isOthers = uid !== ours || gid !== group
  // Only root gives files away; a group of its own, everybody.
  if (isOthers && !mayChown(fd, uid, gid)) mayChown(fd, ours, gid)
  // The mask of this process must not take away what the file had.
  fs.fchmodSync(fd, mode & 0o7777)
}

function mayChown(fd: number, uid: number, gid: number): boolean {
  try {
    fs.fchownSync(fd, uid, gid)
    return true
  } catch {
    return false
  }
}

function syncFolder(folder: string): void {
  try {
    const fd = fs.openSync(folder, 'r')
    try {
      fs.fsyncSync(fd)
    } finally {
      fs.closeSync(fd)
    }
  } catch {
    // Not every system syncs folders (Windows); the text itself is on the disk.
  }
}
