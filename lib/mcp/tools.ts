import { acquireLock, type AcquireOptions, fs, type Inspection, inspectLock, inspectLockFile, isAbsolute, isLockError, LOCK_FILE, lockFilesBelow, type LockError, releaseLock, renewLock, sep } from '../core/index.js'
import { appendLine, finishItem, returnItem, takeItem } from '../files/index.js'
import { completeSlot, type Conflict, type ConflictError, declareWrites, failSlot, findWorkspace, findWorkspaceIfAny, freeSlot, gate, listIntents, listSlots, logEvent, type Policy, withdrawWrites } from '../work/index.js'
import type { Answer, Tool } from './rpc.js'
import { choice, gives, list, number, object, orNull, type Schema, takes, text } from './schema.js'

/*
 * The tools: each is a call of the library, with a token in and a token out. What one gives belongs to nobody's connection and to no
 * process; it ends by its token or its time. One that may be refused says so by the first field of its answer.
 */

const WEEK_S = 604_800
const HOUR_S = 3_600

const RESOURCE = text('A file (memory/queue.md), a part of it (memory/queue.md::head), or a free name (name:deploy). Relative paths are relative to the workspace.')
const FILE = text('Relative to the workspace, or absolute.')
const TOKEN = (from: string) => text(`What ${from} gave.`)
const OWNER = text('Who you are, for others to read: a job id or a name.')
const NOTE = text('One line for whoever asks next: what was shipped, or why not.')
const WAIT = (seconds: number) => number(`Wait for it so long (default ${seconds}); keep it below the time-out of your client, which often is 60.`, 0, HOUR_S)
const TTL = (seconds: number, what: string) => number(`${what} (default ${seconds}).`, 1, WEEK_S)
const CLAIM_TOKEN = text('The token of your own claim on this file, if you have one: the change is then made under it.')
const TIME = text('UTC, ISO 8601.')
const MAYBE = orNull(text())

const REFUSAL = {
  resource: MAYBE,
  holder: orNull(text('The owner label of who has it; null: it gave none.')),
  since: orNull(TIME),
  until: orNull(TIME),
  reason: orNull(text('Why it has it.')),
  retry_after_seconds: { ...orNull(number('Ask again after this time.', 0, Number.MAX_SAFE_INTEGER)) },
  message: text('All of that in words, and the command to look at it.'),
}

// ---- claims ----

const claim = tool<{ resource: string; ttl_seconds?: number; owner?: string; reason?: string; wait_seconds?: number }>({
  name: 'claim',
  title: 'Claim a shared file',
  description:
    'Take the lock of a shared file, of a part of it, or of a free name, before you change it. granted: true gives a token; keep it, renew and release need it. ' +
    'The claim lasts ttl_seconds (default 600), whether or not you, this server or the machine’s other agents go on living, and ends earlier only by release; so release it as soon as the change is made. ' +
    'granted: false: holder has it since then, until then. That is an answer, not an error, and never permission to go on: do something else, or ask again after retry_after_seconds. ' +
    'While you hold a file, give its token as claim_token to append_line, take_item and finish_item. The same as `lockpact acquire`, over the same files.',
  input: { resource: RESOURCE, 'ttl_seconds?': TTL(600, 'How long it is good for'), 'owner?': OWNER, 'reason?': text('Why, for others to read.'), 'wait_seconds?': WAIT(0) },
  output: gives('granted', { resource: text(), token: text('Renews and releases it, from any process.'), owner: MAYBE, until: TIME, recovered: orNull(object({ owner: MAYBE, since: MAYBE })) }, REFUSAL),
  isDestructive: false,
  refusal: 'granted',
  async call({ resource, ttl_seconds = 600, owner, reason, wait_seconds }, signal) {
    const path = pathOf(resource)
    const root = findWorkspaceIfAny(undefined)
    try {
      const lock = await acquire(path, given({ detached: true, ttl: ttl_seconds * 1000, owner, reason }), wait_seconds, signal)
      const { file, token, stamp, recovered } = lock
      if (root !== undefined && recovered) logEvent(root, { type: 'recovered', what: file, by: owner ?? null, against: recovered.owner ?? null })
      return {
        content: { granted: true, resource: file, token, owner: owner ?? null, until: stamp.expiresAt, recovered: recovered ? { owner: recovered.owner ?? null, since: recovered.acquiredAt ?? null } : null },
        undo: () => releaseLock(path, token),
      }
    } catch (error) {
      if (root !== undefined && isRefusal(error)) logEvent(root, { type: 'refused', what: error.file ?? resource, by: owner ?? null, against: error.holder?.owner ?? null, why: error.verdict ?? null })
      throw error
    }
  },
})

/** A holder that hangs beyond its TTL is free for who watches it for five seconds. */
const WATCHING_S = 6

// Refused at once is known before anything waits, and stands when the waiting is stopped.
async function acquire(path: string, options: AcquireOptions, waitSeconds: number | undefined, signal: AbortSignal) {
  try {
    return await acquireLock(path, options)
  } catch (error) {
    if (!isRefusal(error)) throw error
    const seconds = waitSeconds ?? (error.verdict === 'silent' ? WATCHING_S : 0)
    if (seconds === 0) throw error
    return await acquireLock(path, { ...options, wait: seconds * 1000, signal }).catch((later: unknown) => {
      throw signal.aborted ? error : later
    })
  }
}

const renew = tool<{ resource: string; token: string }>({
  name: 'renew',
  title: 'Renew a claim',
  description: 'Make the lease of your claim begin anew: it is good for its ttl_seconds from now. An error says who holds it now; then stop, and change nothing more: what you did may have been overwritten.',
  input: { resource: RESOURCE, token: TOKEN('claim') },
  output: gives('renewed', { resource: text(), until: orNull(TIME) }, REFUSAL),
  isDestructive: false,
  refusal: 'renewed',
  async call({ resource, token }) {
    const { expiresAt = null } = await renewLock(pathOf(resource), token)
    return { content: { renewed: true, resource, until: expiresAt } }
  },
})

const release = tool<{ resource: string; token: string }>({
  name: 'release',
  title: 'Release a claim',
  description: 'Give your claim back as soon as the change is made. An error says who holds it now: your time was over before you were done.',
  input: { resource: RESOURCE, token: TOKEN('claim') },
  output: gives('released', { resource: text() }, REFUSAL),
  isDestructive: true,
  refusal: 'released',
  async call({ resource, token }) {
    await releaseLock(pathOf(resource), token)
    return { content: { released: true, resource } }
  },
})

const MAX_LOCKS = 200

const status = tool<{ paths?: string[] }>({
  name: 'status',
  title: 'Who holds what',
  description: 'Who holds which locks, since when, until when, why; without paths also the slots of the gate and the declared writes of the whole workspace. For your information only: the next moment it may be different, so claim before you change anything. state stale: the next who claims it gets it.',
  input: { 'paths?': list(RESOURCE, 'Files, folders and what is below them, parts, free names. Default: the workspace.') },
  output: object({
    scope: list(text()),
    locks: list(object({ resource: text(), lock_file: text(), state: choice('', 'held', 'stale'), holder: MAYBE, since: MAYBE, until: MAYBE, reason: MAYBE, why: text('The verdict in words.') })),
    more_locks: number(`How many there are beyond ${MAX_LOCKS}.`, 0, Number.MAX_SAFE_INTEGER),
    'slots?': list(object({ key: text(), state: text(), by: MAYBE, since: MAYBE, until: MAYBE, note: MAYBE })),
    'intents?': list(object({ task: text(), writes: list(text()), owner: MAYBE, since: TIME, until: TIME, state: text() })),
  }),
  isReadOnly: true,
  async call({ paths }) {
    const scope = paths?.map(pathOf) ?? [findWorkspace(undefined)]
    const locks = (await Promise.all(scope.map(locksAt))).flat().filter(({ state }) => state !== 'free')
    const shown = locks.slice(0, MAX_LOCKS).map(({ file, lockFile, state, why, stamp }) => ({ resource: file, lock_file: lockFile, state, ...holderOf(stamp), why }))
    return { content: { scope, locks: shown, more_locks: locks.length - shown.length, ...(!paths && workAt(scope[0]!)) } }
  },
})

async function locksAt(path: string): Promise<Inspection[]> {
  if (path.startsWith('name:')) return [inspectLock(path)]
  if (LOCK_FILE.test(path)) return [inspectLockFile(path)]
  if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) return (await lockFilesBelow(path)).map(inspectLockFile)
  return [inspectLock(path)]
}

function workAt(dir: string): object {
  const slots = listSlots({ dir }).map(({ key, state, running, last }) => {
    const { by = null, since = null } = running ?? last ?? {}
    return { key, state, by, since, until: running?.until ?? null, note: running ? null : (last?.note ?? null) }
  })
  const intents = listIntents({ dir }).map(({ task, writes, owner, since, expiresAt: until, state }) => ({ task, writes, owner, since, until, state }))
  return { slots, intents }
}

// ---- write intents ----

const CONFLICTS = list(object({ path: text(), task: MAYBE, owner: MAYBE, since: MAYBE, until: MAYBE }))

const declare = tool<{ task: string; writes: string[]; policy?: Policy; ttl_seconds?: number; owner?: string; wait_seconds?: number }>({
  name: 'declare',
  title: 'Declare what a task will write',
  description:
    'Before a task starts, declare all paths that it will write, all or nothing. granted: true gives a token; withdraw needs it when the task is over, however it ended. The declaration lasts ttl_seconds (default 3600), whatever becomes of you or of this server. ' +
    'granted: false: conflicts names the tasks (or, with task null, the locks) in the way; do not start. Declare before you claim: your own claim on one of the paths is in the way, too.',
  input: {
    task: text('The name of the task. Two that must exclude each other need two names.'),
    writes: list(FILE, 'Files, folders and what is below them, parts (queue.md::head), free names (name:deploy). None has to exist.'),
    'policy?': choice('When somebody else is at it: refuse (default, if the workspace has no other), queue (wait for our turn), warn (start all the same, and be told of overlaps).', 'refuse', 'queue', 'warn'),
    'ttl_seconds?': TTL(HOUR_S, 'How long it is good for'),
    'owner?': OWNER,
    'wait_seconds?': WAIT(30),
  },
  output: gives(
    'granted',
    { task: text(), token: text('Withdraws it, from any process.'), writes: list(text()), overlaps: CONFLICTS, until: TIME },
    { ...REFUSAL, conflicts: CONFLICTS },
  ),
  isDestructive: false,
  refusal: 'granted',
  async call({ ttl_seconds = HOUR_S, wait_seconds = 30, ...asked }, signal) {
    const dir = findWorkspace(undefined)
    const { task, token, writes, overlaps, expiresAt: until } = await declareWrites({ ...asked, ttl: ttl_seconds * 1000, wait: wait_seconds * 1000, signal, dir })
    return { content: { granted: true, task, token, writes, overlaps: overlaps.map(conflictOf), until }, undo: () => withdrawWrites(task, token, { dir }) }
  },
})

const withdraw = tool<{ task: string; token: string }>({
  name: 'withdraw',
  title: 'Withdraw a declaration',
  description: 'Withdraw what a task has declared, when it is done, has failed, or was given up. An error: there is nothing of this token any more, its time was over.',
  input: { task: text('As it was declared.'), token: TOKEN('declare') },
  output: gives('withdrawn', { task: text() }),
  isDestructive: true,
  async call({ task, token }) {
    await withdrawWrites(task, token)
    return { content: { withdrawn: true, task } }
  },
})

// ---- slots ----

const KEY = text('The name of the work, the same for all jobs that could do it.')

const gateTool = tool<{ key: string; every_seconds?: number; offset_seconds?: number; cooldown_seconds?: number; slot?: string; ttl_seconds?: number; owner?: string }>({
  name: 'gate',
  title: 'Is this work to be done now?',
  description:
    'Ask before any work that other jobs may be doing or have done already. go: true gives a token: do the work, and then end it by done (shipped), fail, or free (there was nothing to ship). The slot is yours for ttl_seconds (default 3600), whatever becomes of you or of this server, and then open again. ' +
    'go: false: somebody is at it (reason running) or has done it (done, cooldown); by whom, at what time, until when. Then skip the work. The rule is yours: every_seconds, cooldown_seconds, slot, or none (only refused while somebody is at it).',
  input: {
    key: KEY,
    'every_seconds?': number('Once in each period of this length; periods begin at midnight UTC, if they divide a day.', 1, 10 * 365 * 86_400),
    'offset_seconds?': number('Moves the periods.', 0, WEEK_S),
    'cooldown_seconds?': number('Not sooner than this after it was last done.', 0, 10 * 365 * 86_400),
    'slot?': text('Once for this name, such as a date or a version.'),
    'ttl_seconds?': TTL(HOUR_S, 'How long the work may take'),
    'owner?': OWNER,
  },
  output: gives(
    'go',
    { key: text(), slot: MAYBE, token: text('Ends it, from any process.'), until: TIME, recovered: orNull(object({ by: MAYBE, since: TIME, slot: MAYBE, why: text() })), failures: number('Runs in a row before this one that failed or were lost.', 0, Number.MAX_SAFE_INTEGER) },
    { key: text(), slot: MAYBE, reason: choice('', 'running', 'done', 'cooldown'), by: MAYBE, at: TIME, until: orNull(TIME), note: MAYBE },
  ),
  isDestructive: false,
  async call({ key, every_seconds: every, offset_seconds: offset, cooldown_seconds: cooldown, ttl_seconds: ttl = HOUR_S, slot, owner }) {
    const dir = findWorkspace(undefined)
    const answer = await gate(key, { every: ms(every), offset: ms(offset), cooldown: ms(cooldown), ttl: ttl * 1000, slot, owner, dir })
    if (!answer.go) return { content: answer }
    const { token, expiresAt: until, recovered, failures } = answer
    return { content: { go: true, key, slot: answer.slot, token, until, recovered, failures }, undo: () => answer.free() }
  },
})

const ms = (seconds: number | undefined) => (seconds === undefined ? undefined : seconds * 1000)

const ENDINGS = [
  { name: 'done', end: completeSlot, title: 'The work is done', what: 'The work was shipped: until the rule of whoever asks next lets it, it is not done again.' },
  { name: 'fail', end: failSlot, title: 'The work has failed', what: 'The work has failed: it is open again at once, and counted.' },
  { name: 'free', end: freeSlot, title: 'There was nothing to do', what: 'There was nothing to ship, or you give it up: it is open again at once, and not counted.' },
] as const

const endings = ENDINGS.map(({ name, end, title, what }) =>
  tool<{ key: string; token: string; note?: string }>({
    name,
    title,
    description: `${what} The token of gate ends by this. An error says who has the slot now, or how it ended.`,
    input: { key: KEY, token: TOKEN('gate'), 'note?': NOTE },
    output: gives('ended', { key: text(), as: choice('', name) }),
    isDestructive: false,
    async call({ key, token, note }) {
      await end(key, token, { note })
      return { content: { ended: true, key, as: name } }
    },
  }),
)

// ---- queues and logs ----

const QUEUE = text('A Markdown file with lines like `- [ ] an item`. Relative to the workspace, or absolute.')
const ITEM = object({ id: text(), text: text('With its continuation lines.'), line: number('', 1, Number.MAX_SAFE_INTEGER) })

const take = tool<{ queue: string; owner?: string; ttl_seconds?: number; claim_token?: string }>({
  name: 'take_item',
  title: 'Take the next item of a queue',
  description:
    'Take the first open item (`- [ ] …`) of a Markdown queue; it is marked with your name. taken: true gives the item and a token: finish_item ticks it, return_item opens it again. It is yours for ttl_seconds (default 3600), whatever becomes of you or of this server, and then open for others. ' +
    'taken: false: empty true, there is no open item; else somebody holds the file, until then.',
  input: { queue: QUEUE, 'owner?': OWNER, 'ttl_seconds?': TTL(HOUR_S, 'How long it is yours'), 'claim_token?': CLAIM_TOKEN },
  output: gives('taken', { item: ITEM, token: text(), until: TIME }, { empty: { type: 'boolean' }, ...optional(REFUSAL) }),
  isDestructive: false,
  refusal: 'taken',
  async call({ queue, owner, ttl_seconds = HOUR_S, claim_token }, signal) {
    const path = pathOf(queue)
    const options = { owner, lock: lockOf(claim_token), signal }
    const taken = await takeItem(path, { ...options, ttl: ttl_seconds * 1000 })
    return taken ? { content: { taken: true, ...taken }, undo: () => returnItem(path, taken.token, { lock: options.lock }) } : { content: { taken: false, empty: true } }
  },
})

const finish = tool<{ queue: string; token: string; result?: string; claim_token?: string }>({
  name: 'finish_item',
  title: 'Tick an item',
  description: 'Tick the item that you took, with its result behind it. An error: it is not yours any more, your time was over, and others may have done it.',
  input: { queue: QUEUE, token: TOKEN('take_item'), 'result?': text('One line.'), 'claim_token?': CLAIM_TOKEN },
  output: gives('finished', { item: ITEM }, REFUSAL),
  isDestructive: false,
  refusal: 'finished',
  async call({ queue, token, result, claim_token }, signal) {
    return { content: { finished: true, item: await finishItem(pathOf(queue), token, { result, lock: lockOf(claim_token), signal }) } }
  },
})

const giveBack = tool<{ queue: string; token: string; claim_token?: string }>({
  name: 'return_item',
  title: 'Open an item again',
  description: 'Open the item that you took again, for others, because you cannot or need not finish it. An error: it is not yours any more.',
  input: { queue: QUEUE, token: TOKEN('take_item'), 'claim_token?': CLAIM_TOKEN },
  output: gives('returned', { item: ITEM }, REFUSAL),
  isDestructive: false,
  refusal: 'returned',
  async call({ queue, token, claim_token }, signal) {
    return { content: { returned: true, item: await returnItem(pathOf(queue), token, { lock: lockOf(claim_token), signal }) } }
  },
})

const append = tool<{ file: string; text: string; owner?: string; rotate_bytes?: number; claim_token?: string }>({
  name: 'append_line',
  title: 'Append a line',
  description: 'Append one line to a log that others write to, too. The time in UTC is put in front of it: do not write one yourself. It is there for good. appended: false: somebody holds the file, until then; nothing was written.',
  input: { file: FILE, text: text('One line.'), 'owner?': OWNER, 'rotate_bytes?': number('Begin a new file (log.md goes to log.1.md) before it grows beyond this.', 1, Number.MAX_SAFE_INTEGER), 'claim_token?': CLAIM_TOKEN },
  output: gives('appended', { file: text(), line: text('As written.') }, REFUSAL),
  isDestructive: false,
  refusal: 'appended',
  async call({ file, text, owner, rotate_bytes: bytes, claim_token }, signal) {
    const line = await appendLine(pathOf(file), text, { owner, rotate: bytes === undefined ? undefined : { bytes }, lock: lockOf(claim_token), signal })
    return { content: { appended: true, file, line } }
  },
})

export const TOOLS: Tool[] = [claim, renew, release, status, declare, withdraw, gateTool, ...endings, take, finish, giveBack, append]

export const INSTRUCTIONS =
  'Several agents share these files. Before work that others may do as well: gate; skip it when it says go: false. Before a task that writes to several paths: declare. Before you change one shared file: claim, change it, release. ' +
  'Keep every token until you have ended what it is for. A refusal (granted, go, taken, appended: false) is an answer: never go on without what you asked for. Look: status.'

// ---- what they have in common ----

interface Definition<Given> {
  name: string
  title: string
  description: string
  input: Record<string, Schema>
  output: Schema
  isReadOnly?: boolean
  isDestructive?: boolean
  /** The field that is false in its answer when somebody else has it. */
  refusal?: string
  call(given: Given, signal: AbortSignal): Promise<Answer>
}

function tool<Given>({ input, output, isReadOnly = false, isDestructive = false, refusal, call, ...words }: Definition<Given>): Tool {
  return {
    ...words,
    inputSchema: takes(input),
    outputSchema: output,
    annotations: { readOnlyHint: isReadOnly, destructiveHint: isDestructive, idempotentHint: isReadOnly, openWorldHint: false },
    async call(given, signal) {
      try {
        return await call(given as Given, signal)
      } catch (error) {
        if (refusal !== undefined && isRefusal(error)) return { content: { [refusal]: false, ...refusalOf(error) } }
        if (isLockError(error)) return { error: error.message }
        if (signal.aborted) return { error: 'it was stopped while it waited; nothing was taken' }
        throw error
      }
    },
  }
}

const isRefusal = (error: unknown): error is LockError => isLockError(error) && error.code === 'ELOCKED'

function refusalOf(error: LockError) {
  const { file = null, holder, retryAfterMs, message } = error
  const { conflicts } = error as Partial<ConflictError>
  const [first] = conflicts ?? []
  const who = first ? { holder: first.task ?? first.owner, since: first.since, until: first.expiresAt, reason: null } : holderOf(holder)
  return {
    resource: file,
    ...who,
    retry_after_seconds: retryAfterMs === undefined ? null : Math.ceil(retryAfterMs / 1000),
    message,
    ...(conflicts && { conflicts: conflicts.map(conflictOf) }),
  }
}

function holderOf(stamp: Inspection['stamp']) {
  const { owner: holder = null, acquiredAt: since = null, expiresAt: until = null, reason = null } = stamp ?? {}
  return { holder, since, until, reason }
}

const conflictOf = ({ expiresAt: until, ...facts }: Conflict) => ({ ...facts, until })

const lockOf = (token: string | undefined) => (token === undefined ? undefined : { token })

// Relative to the workspace, as every call finds it; where there is none, to the working folder.
function pathOf(resource: string): string {
  if (resource === '' || resource.startsWith('name:') || isAbsolute(resource)) return resource
  const root = findWorkspaceIfAny(undefined)
  return root === undefined ? resource : root + sep + resource
}

function optional(properties: Record<string, Schema>): Record<string, Schema> {
  return Object.fromEntries(Object.entries(properties).map(([name, schema]) => [`${name}?`, schema]))
}

// Without what is undefined, which is no option.
function given<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as { [K in keyof T]: Exclude<T[K], undefined> }
}
