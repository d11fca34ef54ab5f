import { crypto, fs, idOf, inspectLock, type Inspection, join, LOCK_FILE, sweepOne } from '../core/index.js'
import { changeDocument, FOLDER, type Kind, readDocument } from './workspace.js'

/*
 * A session is a chain of processes that are one agent: it remembers its tokens, so that an agent that has lost its context can still
 * release what it has, and is not locked out by its own locks. One document for each, which only its user may read.
 *
 * A session within another, as `run` makes one, is called after both, with a blank between: what the outer one has in hand, it has too,
 * but not the other way round; so two runs of one agent exclude each other.
 */

/** What a session has in hand. */
export interface Remembered {
  kind: 'lock' | 'slot' | 'intent' | 'item'
  /** The absolute file or free name, the key, the task, the queue. */
  name: string
  token: string
  /** Of a lock. */
  lockFile?: string
  /** ISO, UTC; null: until it is released. */
  until: string | null
  /** It was given back: whoever still looks after it is to know that nobody took it away. */
  isOver?: true
}

/** Claude Code and Codex put the session into the environment of their shell that they name to their hooks; Gemini CLI does not. */
const AGENTS = ['LOCKPACT_SESSION', 'CLAUDE_CODE_SESSION_ID', 'CODEX_SESSION_ID', 'CODEX_THREAD_ID']

/** The session of this process: `LOCKPACT_SESSION`, else that of the agent that started it. */
export function sessionOf(env: NodeJS.ProcessEnv = process.env): string | undefined {
  return AGENTS.map((name) => env[name]).find(Boolean)
}

/** A new session within that of this process. */
export function sessionWithin(): string {
  return [...chainOf(sessionOf()), crypto().randomUUID()].join(' ')
}

const chainOf = (session: string | undefined) => session?.split(' ').filter(Boolean) ?? []

/** What the session has in hand, the newest last. Without a workspace or a session: nothing. */
export function recall(root: string | undefined, session = sessionOf()): Remembered[] {
  return memory(root, session).filter(({ isOver }) => !isOver)
}

/** Whether the session itself has given back what this token was for. */
export function isGivenBack(root: string | undefined, token: string, session: string): boolean {
  return memory(root, session).some((entry) => entry.token === token && entry.isOver)
}

function memory(root: string | undefined, session: string | undefined): Remembered[] {
  return root === undefined ? [] : chainOf(session).flatMap((each) => readDocument(root, kindOf(each)))
}

/** Remembers what a token is for, or until when it is good now. */
export async function remember(root: string | undefined, entry: Remembered, session = sessionOf()): Promise<void> {
  const own = chainOf(session).at(-1)
  if (root === undefined || own === undefined) return
  const folder = join(root, FOLDER, 'sessions')
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (!fs.existsSync(join(root, FOLDER, `${kindOf(own).file}.json`))) clearAway(folder)
  const isFresh = ({ until }: Remembered) => until === null || Date.parse(until) > Date.now() - FORGOTTEN_AFTER_MS
  await changeDocument(root, kindOf(own), (entries) => [...entries.filter((each) => isFresh(each) && each.token !== entry.token), entry])
}

// A session that was killed forgets nothing by itself.
function clearAway(folder: string): void {
  for (const name of fs.readdirSync(folder)) {
    const path = join(folder, name)
    const age = Date.now() - (fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity)
    // One that was killed before it wrote its stamp has left an empty one.
    if (age > GONE_AFTER_MS) fs.rmSync(path, { force: true })
    else if (LOCK_FILE.test(name)) sweepOne(path)
  }
}

/** Forgets what this token was for: it was given back. */
export async function forget(root: string | undefined, token: string, session = sessionOf()): Promise<void> {
  if (root === undefined) return
  const over = { isOver: true, until: new Date().toISOString() } as const
  for (const each of chainOf(session)) {
    if (!readDocument(root, kindOf(each)).some((entry) => entry.token === token)) continue
    await changeDocument(root, kindOf(each), (entries) => entries.map((entry) => (entry.token === token ? { ...entry, ...over } : entry)))
  }
}

/** Removes the memory of a session that is over, not that of those around it. */
export function endSession(root: string, session: string): void {
  fs.rmSync(join(root, FOLDER, `${kindOf(chainOf(session).at(-1)!).file}.json`), { force: true })
}

/** The lock of a resource, when this session holds it; the innermost, if it goes on under its own. */
export function ownLock(root: string | undefined, resource: string, options: { lockFile?: string } = {}): { token: string; file: string; lockFile: string } | undefined {
  const locks = recall(root).filter(({ kind }) => kind === 'lock')
  if (locks.length === 0) return undefined
  const { file, lockFile, stamp }: Inspection = inspectLock(resource, options)
  const own = locks.find((each) => each.lockFile === lockFile && idOf(each.token) === stamp?.id)
  return own && (ownLock(root, resource, { lockFile: `${lockFile}.inner` }) ?? { token: own.token, file, lockFile })
}

// An expired lease that nobody took is still ours.
const FORGOTTEN_AFTER_MS = 86_400_000
/** A session that has not taken anything for so long has come to its end. */
const GONE_AFTER_MS = 7 * FORGOTTEN_AFTER_MS

function kindOf(session: string): Kind<Remembered> & { file: string } {
  const name = /^\w[\w.-]{0,63}$/.test(session) ? session : crypto().createHash('sha256').update(session).digest('hex').slice(0, 32)
  return { name: 'session', file: `sessions/${name}`, mode: 0o600, isEntry: isRemembered }
}

function isRemembered(value: object): boolean {
  const { kind, name, token, lockFile, until, isOver } = value as Record<string, unknown>
  return [kind, name, token].every((each) => typeof each === 'string') && (lockFile === undefined || typeof lockFile === 'string') && (until === null || typeof until === 'string') && (isOver === undefined || isOver === true)
}
