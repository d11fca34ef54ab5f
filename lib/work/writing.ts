import { describeHold, dirname, describeHolder, idOf, type Inspection, inspectLock, inspectLockFile, LOCK_FILE, lockFilesBelow, fs, quoted, sep, show } from '../core/index.js'
import { INTENTS } from './declare.js'
import { conflictsOf } from './intents.js'
import { overBy } from './lease.js'
import { recall } from './session.js'
import { pathIn, readDocument } from './workspace.js'

/** Somebody who is not to be disturbed. */
export interface Disturbed {
  /** Absolute. */
  path: string
  /** The owner, or the task. */
  against: string | null
  /** One sentence: who, since when, until when, and what to do. */
  why: string
}

/**
 * Whom a session would disturb by writing these absolute paths: the holder of the file's lock, of a folder above, or of one below; the task that
 * has declared it; the holder of a lock file that is about to be removed. Part locks are about parts, and do not count.
 */
export async function whomDisturbs(root: string | undefined, paths: string[], session: string | undefined): Promise<Disturbed | undefined> {
  const own = new Set(recall(root, session).map(({ token }) => idOf(token)))
  for (const path of paths) {
    // What cannot be a path, or cannot be looked at, is in nobody's way.
    const disturbed = await lockedBy(root, path, own).catch(() => undefined) ?? (root === undefined ? undefined : declaredBy(root, path, own))
    if (disturbed) return disturbed
  }
  return undefined
}

async function lockedBy(root: string | undefined, path: string, own: Set<string>): Promise<Disturbed | undefined> {
  const held = (await locksOn(root, path)).find(({ state, stamp }) => state === 'held' && stamp && !own.has(stamp.id ?? ''))
  return held && { path, against: held.stamp!.owner ?? null, why: lockWords(path, held) }
}

// Within the workspace.
function foldersAbove(root: string | undefined, path: string): string[] {
  const folders: string[] = []
  for (let folder = dirname(path); root !== undefined && folder.startsWith(root + sep); folder = dirname(folder)) folders.push(folder)
  return folders
}

async function locksOn(root: string | undefined, path: string): Promise<Inspection[]> {
  if (LOCK_FILE.test(path)) return [inspectLockFile(path)]
  const isFolder = fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()
  const below = isFolder ? (await lockFilesBelow(path)).filter((lock) => lock.endsWith('.lock')) : []
  return [inspectLock(path), ...foldersAbove(root, path).map((folder) => inspectLock(folder)), ...below.map(inspectLockFile)]
}

function lockWords(path: string, { file, stamp }: Inspection): string {
  const who = `${describeHolder(stamp)}, ${describeHold(stamp!)}`
  if (LOCK_FILE.test(path)) return `${path} is the lock of ${who}: do not touch it; whoever is sure that its holder is dead uses lockpact break ${quoted(file)} --reason "…"`
  return `${file} is locked by ${who}: do not write to it now; wait for it (lockpact acquire ${quoted(file)} --wait 30s), or do something else`
}

function declaredBy(root: string, path: string, own: Set<string>): Disturbed | undefined {
  let inside: string
  try {
    inside = pathIn(root, path, undefined)
  } catch {
    return undefined // outside of the workspace
  }
  const isOwn = ({ id }: { id: string }) => own.has(id)
  const [conflict] = conflictsOf(readDocument(root, INTENTS), [inside], isOwn, (entry) => overBy(entry) !== undefined, 0)
  if (!conflict) return undefined
  const { task, owner, since, expiresAt } = conflict
  const who = `task ${show(task)}${owner === null ? '' : ` (${show(owner)})`}`
  const why = `${path} is being written by ${who} since ${since}, until ${expiresAt}: do not write to it now; see lockpact intents, and come back later, or do something else`
  return { path, against: task, why }
}
