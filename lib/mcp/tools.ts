import { acquireLock, type AcquireOptions, checkPath, fs, type Inspection, inspectLock, inspectLockFile, isAbsolute, isLockError, LOCK_FILE, lockFilesBelow, LockError, type LockEvent, releaseLock, renewLock, sep, show, type Stamp } from '../core/index.js'
import { appendLine, finishItem, type HoldOptions, returnItem, takeItem } from '../files/index.js'
import { createJob, deleteJob, type Job, type JobOptions, type JobPatch, listJobs, type NewJob, pauseJob, resumeJob, showJob, updateJob } from '../jobs/index.js'
import { completeSlot, type Conflict, type ConflictError, declareWrites, failSlot, findWorkspace, findWorkspaceIfAny, freeSlot, gate, listIntents, listSlots, logLockEvent, type Policy, readEvents, summarize, withdrawWrites } from '../work/index.js'
import type { Answer, Tool } from './rpc.js'
import { choice, either, gives, list, number, object, patch, type Schema, takes, text, texts } from './schema.js'

/*
 * The tools: each is a call of the library, with a token in and a token out. What one gives belongs to nobody's connection and to no
 * process; it ends by its token or its time. One that may be refused says so by the first field of its answer.
 */

const WEEK_S = 604_800
const YEARS_S = 315_360_000
const HOUR_S = 3_600
const ANY = Number.MAX_SAFE_INTEGER
const COUNT = { type: 'number' }

const RESOURCE = text('A file (memory/queue.md), a part of it (memory/queue.md::head), or a free name (name:deploy); relative to the workspace.')
const FILE = text('Relative to the workspace.')
const OWNER = text('Who you are, for others to read: a job or a name.')
const tokenOf = (tool: string) => text(`From ${tool}.`)
const lasting = (seconds: number) => number(`How long it lasts (default ${seconds}).`, 1, WEEK_S)
const waiting = (seconds: number) => number(`How long to wait for it (default ${seconds}); less than your client's own time-out, often 60.`, 0, HOUR_S)

const QUICK = { 'wait_seconds?': waiting(10), 'claim_token?': text('Of your own claim on this file, if you have one.') }
interface Quick {
  wait_seconds?: number
  claim_token?: string
}

/** For the end of what begins with "The token, and what it is for, lasts ttl_seconds". */
const REGARDLESS = 'whatever becomes of you, your connection or this server'
const REFUSAL = { ...texts('message resource? holder? since? until? reason?'), 'retry_after_seconds?': COUNT }

// ---- claims ----

const claim = tool<{ resource: string; ttl_seconds?: number; owner?: string; reason?: string; wait_seconds?: number }>({
  name: 'claim',
  title: 'Claim a shared file',
  description:
    'Take the lock of a shared file, or of a part of it, before you change it. granted: true gives a token: keep it, renew and release need it. ' +
    `The claim lasts ttl_seconds (default 600), ${REGARDLESS}; release it as soon as the change is made. ` +
    'granted: false: somebody else (holder) has it. Never go on without it: do something else, or ask again after retry_after_seconds. ' +
    'recovered: who held it before and never released it; that work may be half done.',
  input: { resource: RESOURCE, 'ttl_seconds?': lasting(600), 'owner?': OWNER, 'reason?': text('Why, for others to read.'), 'wait_seconds?': waiting(0) },
  output: gives('granted', { ...texts('resource token owner? until'), 'recovered?': object(texts('owner? since?')) }, REFUSAL),
  refusal: 'granted',
  async call({ resource, ttl_seconds = 600, owner, reason, wait_seconds }, signal) {
    const path = pathOf(resource)
    const options = { detached: true, ttl: ttl_seconds * 1000, ...(owner !== undefined && { owner }), ...(reason !== undefined && { reason }) }
    const lock = await acquire(path, options, wait_seconds, signal)
    lock.leave()
    const { file, token, stamp, recovered } = lock
    return {
      content: { granted: true, resource: file, token, owner, until: stamp.expiresAt, recovered: recovered && { owner: recovered.owner, since: recovered.acquiredAt } },
      undo: () => releaseLock(path, token),
    }
  },
})

/** A holder that hangs beyond its TTL is free for who watches it for five seconds. */
const WATCHING_S = 6

// Refused at once is known before anything waits, and stands when the waiting is stopped.
async function acquire(path: string, options: AcquireOptions, waitSeconds: number | undefined, signal: AbortSignal) {
  const onEvent = log()
  try {
    return await acquireLock(path, { ...options, onEvent: (event) => (event.type === 'refused' && waitSeconds ? undefined : onEvent(event)) })
  } catch (error) {
    if (!isRefusal(error)) throw error
    const seconds = waitSeconds ?? (error.verdict === 'silent' ? WATCHING_S : 0)
    if (seconds === 0) throw error
    return await acquireLock(path, { ...options, onEvent, wait: seconds * 1000, signal }).catch((later: unknown) => {
      throw signal.aborted ? error : later
    })
  }
}

const renew = tool<{ resource: string; token: string }>({
  name: 'renew',
  title: 'Renew a claim',
  description: 'Let your claim last its ttl_seconds from now; what a process renews is left to it. An error says who holds it now: then change nothing more.',
  input: { resource: RESOURCE, token: tokenOf('claim') },
  output: gives('renewed', texts('resource until?'), REFUSAL),
  refusal: 'renewed',
  async call({ resource, token }) {
    const { expiresAt: until } = await renewLock(pathOf(resource), token)
    return { content: { renewed: true, resource, until } }
  },
})

const release = tool<{ resource: string; token: string }>({
  name: 'release',
  title: 'Release a claim',
  description: 'Give your claim back. An error says who holds it now: your time was over before you were done.',
  input: { resource: RESOURCE, token: tokenOf('claim') },
  output: gives('released', texts('resource'), REFUSAL),
  refusal: 'released',
  async call({ resource, token }) {
    const path = pathOf(resource)
    const { stamp, ...place } = inspectLock(path)
    await releaseLock(path, token)
    log()({ type: 'released', ...place, owner: stamp?.owner, ms: Date.now() - Date.parse(stamp?.acquiredAt ?? '') })
    return { content: { released: true, resource } }
  },
})

const MAX_LOCKS = 200

const status = tool<{ paths?: string[] }>({
  name: 'status',
  title: 'Who holds what',
  description: 'Who holds which locks, since when, until when, why; without paths also the slots and declarations of the workspace. It may be different the next moment: to have something, claim it. stale: free for the next claim.',
  input: { 'paths?': list(RESOURCE, 'Also folders: what is below them. Default: the workspace.') },
  output: object({
    scope: list(text()),
    locks: list(object(texts('resource lock_file state holder? since? until? reason? why'))),
    'more_locks?': COUNT,
    'slots?': list(object(texts('key state by? since? until? note?'))),
    'intents?': list(object({ ...texts('task owner? since until state'), writes: list(text()) })),
  }),
  isReadOnly: true,
  async call({ paths }) {
    const scope = paths?.map(pathOf) ?? [findWorkspace(undefined)]
    const locks = (await Promise.all(scope.map(locksAt))).flat().filter(({ state }) => state !== 'free')
    const shown = locks.slice(0, MAX_LOCKS).map(({ file, lockFile, state, why, stamp }) => ({ resource: file, lock_file: lockFile, state, ...holderOf(stamp), why }))
    return { content: { scope, locks: shown, more_locks: locks.length - shown.length || undefined, ...(!paths && workAt(scope[0]!)) } }
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
    const { by, since } = running ?? last ?? {}
    return { key, state, by, since, until: running?.until, note: running ? undefined : last?.note }
  })
  const intents = listIntents({ dir }).map(({ task, writes, owner, since, expiresAt: until, state }) => ({ task, writes, owner, since, until, state }))
  return { slots, intents }
}

// ---- write intents ----

const CONFLICTS = list(object(texts('path task? owner? since? until?')))

const declare = tool<{ task: string; writes: string[]; policy?: Policy; ttl_seconds?: number; owner?: string; wait_seconds?: number }>({
  name: 'declare',
  title: 'Declare what a task will write',
  description:
    'Before a task starts, declare all paths that it will write. granted: true gives a token: withdraw needs it when the task is over, however it ended. ' +
    `The declaration lasts ttl_seconds (default 3600), ${REGARDLESS}. ` +
    'granted: false: do not start; conflicts has the tasks in your way, and the locks (without task), your own claims too: declare first, then claim.',
  input: {
    task: text('Its name. Two that must exclude each other need two names.'),
    writes: list(RESOURCE, 'Also folders: what is below them. None has to exist.'),
    'policy?': choice('When others are at it: refuse (the default, if the workspace has no other), queue, or warn (start all the same).', 'refuse', 'queue', 'warn'),
    'ttl_seconds?': lasting(HOUR_S),
    'owner?': OWNER,
    'wait_seconds?': waiting(30),
  },
  output: gives('granted', { ...texts('task token until'), writes: list(text()), overlaps: CONFLICTS }, { ...REFUSAL, 'conflicts?': CONFLICTS }),
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
  description: 'Withdraw what a task has declared, when it is over. An error: its time was over before.',
  input: { task: text('As declared.'), token: tokenOf('declare') },
  output: gives('withdrawn', texts('task')),
  async call({ task, token }) {
    await withdrawWrites(task, token)
    return { content: { withdrawn: true, task } }
  },
})

// ---- slots ----

const KEY = text('The name of the work, the same for all who could do it.')

const gateTool = tool<{ key: string; every_seconds?: number; offset_seconds?: number; cooldown_seconds?: number; slot?: string; ttl_seconds?: number; owner?: string }>({
  name: 'gate',
  title: 'Is this work to be done now?',
  description:
    'Ask before work that others may be doing or have done already. go: true gives a token: do the work, then end it by done (shipped), fail, or free (nothing to ship). ' +
    `The slot lasts ttl_seconds (default 3600), ${REGARDLESS}, and is open again then. ` +
    'go: false: skip the work; somebody is at it (reason running), or has done it (done, cooldown). The rule is yours: every, cooldown, slot, or none (refused only while somebody is at it).',
  input: {
    key: KEY,
    'every_seconds?': number('Once in each period of this length.', 1, YEARS_S),
    'offset_seconds?': number('Moves the periods, which begin at midnight UTC.', 0, YEARS_S),
    'cooldown_seconds?': number('Not sooner than this after it was last done.', 0, YEARS_S),
    'slot?': text('Once for this name, such as a date or a version.'),
    'ttl_seconds?': lasting(HOUR_S),
    'owner?': OWNER,
  },
  output: gives(
    'go',
    { ...texts('key slot? token until'), failures: COUNT, 'recovered?': object(texts('by? since slot? why')) },
    texts('key slot? reason by? at until? note?'),
  ),
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
  { name: 'done', end: completeSlot, title: 'The work is done', what: 'The work was shipped; others skip it as long as their rule says.' },
  { name: 'fail', end: failSlot, title: 'The work has failed', what: 'The work has failed: it is open again, and the failure is counted.' },
  { name: 'free', end: freeSlot, title: 'There was nothing to do', what: 'There was nothing to ship, or you give it up: it is open again.' },
]

const endings = ENDINGS.map(({ name, end, title, what }) =>
  tool<{ key: string; token: string; note?: string }>({
    name,
    title,
    description: `${what} An error says who has the slot now, or how your run ended.`,
    input: { key: KEY, token: tokenOf('gate'), 'note?': text('One line for whoever asks next.') },
    output: gives('ended', texts('key as')),
    async call({ key, token, note }) {
      await end(key, token, { note })
      return { content: { ended: true, key, as: name } }
    },
  }),
)

// ---- queues and logs ----

const QUEUE = text('A Markdown file with lines like `- [ ] an item`; relative to the workspace.')
const ITEM = object({ ...texts('id text'), line: COUNT })

const take = tool<{ queue: string; owner?: string; ttl_seconds?: number } & Quick>({
  name: 'take_item',
  title: 'Take the next item of a queue',
  description:
    'Take the first open item of a Markdown queue; it is marked with your name. taken: true gives the item and a token: finish_item ticks it, return_item opens it again. ' +
    `It is yours for ttl_seconds (default 3600), ${REGARDLESS}, and then open for others. ` +
    'taken: false: there is no open item (empty), or somebody holds the file.',
  input: { queue: QUEUE, 'owner?': OWNER, 'ttl_seconds?': lasting(HOUR_S), ...QUICK },
  output: gives('taken', { item: ITEM, ...texts('token until') }, { 'empty?': { type: 'boolean' }, ...REFUSAL }),
  refusal: 'taken',
  async call({ queue, owner, ttl_seconds = HOUR_S, ...quick }, signal) {
    const path = pathOf(queue)
    const taken = await takeItem(path, { owner, ttl: ttl_seconds * 1000, ...holding(quick, signal) })
    return taken ? { content: { taken: true, ...taken }, undo: () => returnItem(path, taken.token, holding(quick)) } : { content: { taken: false, empty: true, message: `${queue} has no open item` } }
  },
})

const finish = tool<{ queue: string; token: string; result?: string } & Quick>({
  name: 'finish_item',
  title: 'Tick an item',
  description: 'Tick the item that you took. An error: it is not yours any more; your time was over, and others may have done it.',
  input: { queue: QUEUE, token: tokenOf('take_item'), 'result?': text('One line, which is written behind it.'), ...QUICK },
  output: gives('finished', { item: ITEM }, REFUSAL),
  refusal: 'finished',
  async call({ queue, token, result, ...quick }, signal) {
    return { content: { finished: true, item: await finishItem(pathOf(queue), token, { result, ...holding(quick, signal) }) } }
  },
})

const giveBack = tool<{ queue: string; token: string } & Quick>({
  name: 'return_item',
  title: 'Open an item again',
  description: 'Open the item that you took for others again. An error: it is not yours any more.',
  input: { queue: QUEUE, token: tokenOf('take_item'), ...QUICK },
  output: gives('returned', { item: ITEM }, REFUSAL),
  refusal: 'returned',
  async call({ queue, token, ...quick }, signal) {
    return { content: { returned: true, item: await returnItem(pathOf(queue), token, holding(quick, signal)) } }
  },
})

const append = tool<{ file: string; text: string; owner?: string; rotate_bytes?: number } & Quick>({
  name: 'append_line',
  title: 'Append a line',
  description: 'Append one line to a shared log, for good. The time (UTC) is put in front of it, do not write one yourself. appended: false: somebody holds the file; nothing was written.',
  input: { file: FILE, text: text('One line.'), 'owner?': OWNER, 'rotate_bytes?': number('Before it grows beyond this, it goes to log.1.md, and a new one begins.', 1, ANY), ...QUICK },
  output: gives('appended', texts('file line'), REFUSAL),
  refusal: 'appended',
  async call({ file, text, owner, rotate_bytes: bytes, ...quick }, signal) {
    const line = await appendLine(pathOf(file), text, { owner, rotate: bytes === undefined ? undefined : { bytes }, ...holding(quick, signal) })
    return { content: { appended: true, file, line } }
  },
})

// ---- jobs ----

const TIME = either(text('As 30m.'), { type: 'number', description: 'Milliseconds.' })
const truth = (description: string): Schema => ({ type: 'boolean', description })

/** What the author of a job says. */
const AUTHORED: Record<string, Schema> = {
  name: text('One line, unique without case.'),
  'description?': text('What it is for.'),
  enabled: truth('false: not due, whatever the schedule.'),
  schedule: object(
    { kind: choice('One of these.', 'cron', 'every', 'at'), 'expr?': text("Of cron: five fields, as '0 9 * * mon-fri'."), 'tz?': text('Of cron: as Europe/Berlin.'), 'every?': TIME, 'at?': text('Once, as 2026-11-20T09:00:00Z.') },
    'kind, and what that needs. every: so long after the end of the last run.',
  ),
  'task?': text('The prompt.'),
  'taskSource?': text('The file with the prompt instead of a task, read when the job is run: what is edited there needs no update. Relative to the workspace.'),
  'command?': { ...either(list(text(), 'A program and its arguments.'), text('A line for the shell.')), description: 'What gets the prompt on its stdin.' },
  'delivery?': object(texts('channel target'), 'Where the result goes.'),
  'writes?': list(text(), 'What it will write; relative to the workspace.'),
  'policy?': choice('When others write there.', 'refuse', 'queue', 'warn'),
  'slot?': object({ key: text(), 'every?': TIME, 'offset?': TIME, 'cooldown?': TIME }, 'The gate that it asks, and the rule.'),
  'timeout?': { ...TIME, description: 'Its command is ended after this.' },
  'deleteAfterRun?': truth('Of at: deleted when it has run well.'),
}

const STATE: Record<string, Schema> = {
  ...texts('id name status nextRunAt? lastRunAt? lastRunStatus? lastRunError?'),
  ...{ rev: COUNT, runCount: COUNT, consecutiveErrors: COUNT },
  'running?': object(texts('by? since until dueAt?')),
}
const JOB = object({ ...STATE, ...AUTHORED, ...texts('createdAt createdBy? updatedAt lastTaskSha256?'), 'lastRunDurationMs?': COUNT })
const VALUE = either(text(), COUNT, { type: 'boolean' }, list(text()), { type: 'object' })
const CHANGED: Schema = { type: 'object', additionalProperties: object({ 'before?': VALUE, 'after?': VALUE }), description: 'By field; empty when all was so already.' }

interface OfJob {
  job: string
  fields: JobPatch
  if_rev?: number
}
interface Action {
  needs: (keyof OfJob)[]
  may?: (keyof OfJob)[]
  act(given: OfJob, options: JobOptions): object | Promise<object>
}

const ofOne = (act: (job: string, options: JobOptions) => Job | Promise<Job>): Action => ({
  needs: ['job'],
  act: async ({ job }, options) => ({ job: jobOf(await act(job, options)) }),
})

const ACTIONS = {
  list: { needs: [], act: (_, options) => ({ jobs: listJobs(options).map(({ task, ...job }) => jobOf(job)) }) },
  show: ofOne(showJob),
  create: { needs: ['fields'], act: async ({ fields }, options) => ({ job: jobOf(await createJob(fields as NewJob, options)) }) },
  update: {
    needs: ['job', 'fields'],
    may: ['if_rev'],
    async act({ job: idOrName, fields, if_rev: ifRev }, options) {
      const { job, changed } = await updateJob(idOrName, fields, { ...options, ifRev })
      return { job: jobOf(job), changed }
    },
  },
  pause: ofOne(pauseJob),
  resume: ofOne(resumeJob),
  delete: ofOne(deleteJob),
} satisfies Record<string, Action>

// Of a run, what is of use to others.
const jobOf = ({ running, ...job }: Job) => ({ ...job, running: running && { by: running.by, since: running.since, until: running.until, dueAt: running.dueAt } })

const jobs = tool<{ action: keyof typeof ACTIONS; owner?: string } & Partial<OfJob>>({
  name: 'jobs',
  title: 'The roster of jobs',
  description:
    'The jobs that the scheduler runs. To change one, update it, never delete and create it anew: update changes what fields has, and nothing else; id, counters and history stay, also when it is running meanwhile. ' +
    'It gives what has changed (before, after). create: fields with a name, a schedule, and task, taskSource or command; the job stays until it is deleted. ' +
    'list: all, without the text of their tasks; show: one. pause: not due until resume, which also revives one that has completed or failed, after an update of its schedule. delete: for good; gives it as it was.',
  input: {
    action: choice('What to do.', ...Object.keys(ACTIONS)),
    'job?': text('Its id or name; for all but list and create.'),
    'fields?': patch(AUTHORED, 'For create and update. null takes a field away.'),
    'if_rev?': number('For update: only if this is still its rev; otherwise an error, and nothing is changed.', 0, ANY),
    'owner?': OWNER,
  },
  // One of them.
  output: { ...object({ 'jobs?': list(object(STATE)), 'job?': JOB, 'changed?': CHANGED }), oneOf: [{ required: ['jobs'] }, { required: ['job'] }] },
  isDestructive: true,
  async call({ action, owner, ...given }) {
    const { needs, may = [], act }: Action = ACTIONS[action]
    const missing = needs.find((name) => given[name] === undefined)
    if (missing) return { error: `${missing} is missing: ${action} needs ${needs.join(' and ')}` }
    const idle = (Object.keys(given) as (keyof OfJob)[]).find((name) => ![...needs, ...may].includes(name))
    if (idle) return { error: `${action} has no use for ${idle}; nothing was done` }
    return { content: await act(given as OfJob, { owner, dir: findWorkspace(undefined) }) }
  },
})

// ---- looking back ----

const MAX_ROWS = 20
const DAY_S = 86_400
const STOMP = { ...texts('by against last'), count: COUNT }
const SPANS = list(object({ ...texts('at what by against'), ms: COUNT }))

const report = tool<{ since_seconds?: number }>({
  name: 'report',
  title: 'What stomped what',
  description: `Who stood in whose way, and how often: refusals and conflicts (pairs), gates that were skipped by reason, the longest holds and waits, recoveries and losses (incidents). At most ${MAX_ROWS} rows of each.`,
  input: { 'since_seconds?': number(`How far back (default ${DAY_S}).`, 1, YEARS_S) },
  output: object({
    ...texts('since until'),
    events: COUNT,
    totals: { type: 'object' },
    pairs: list(object({ ...STOMP, what: list(text()) })),
    skips: list(object({ ...STOMP, ...texts('what reason') })),
    holds: SPANS,
    waits: SPANS,
    incidents: list(object(texts('at type what by against why'))),
  }),
  isReadOnly: true,
  async call({ since_seconds = DAY_S }) {
    const now = Date.now()
    const { resources, owners, ...facts } = summarize(readEvents(findWorkspace(undefined)), now - since_seconds * 1000, now)
    return { content: Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, Array.isArray(value) ? value.slice(0, MAX_ROWS) : value])) }
  },
})

export const TOOLS: Tool[] = [claim, renew, release, status, declare, withdraw, gateTool, ...endings, take, finish, giveBack, append, jobs, report]

export const INSTRUCTIONS =
  'Several agents share these files. Before work that others may do as well: gate; skip it when it says go: false. Before a task that writes to several paths: declare. Before you change one shared file: claim, change it, release. ' +
  'Keep every token until you have ended what it is for. A refusal (granted, go, taken, appended: false) is an answer: never go on without what you asked for. A scheduled job is changed by jobs, update, never by a new one. Look: status.'

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
        const answer = await call(given as Given, signal)
        return 'error' in answer ? answer : { ...answer, content: known(answer.content) }
      } catch (error) {
        if (refusal !== undefined && isRefusal(error)) return { content: known({ [refusal]: false, ...refusalOf(error) }) }
        if (isLockError(error)) return { error: error.message }
        if (signal.aborted) return { error: 'it was stopped while it waited; nothing was taken' }
        throw error
      }
    },
  }
}

const isRefusal = (error: unknown): error is LockError => isLockError(error) && error.code === 'ELOCKED'

function refusalOf(error: LockError) {
  const { file: resource, holder, retryAfterMs, message } = error
  const { conflicts } = error as Partial<ConflictError>
  const [first] = conflicts ?? []
  const who = first ? { holder: first.task ?? first.owner, since: first.since, until: first.expiresAt } : holderOf(holder)
  const seconds = Math.ceil((retryAfterMs ?? Infinity) / 1000)
  return { resource, ...who, retry_after_seconds: seconds < Infinity ? seconds : undefined, message, conflicts: conflicts?.map(conflictOf) }
}

const holderOf = ({ owner: holder, acquiredAt: since, expiresAt: until, reason }: Partial<Stamp> = {}) => ({ holder, since, until, reason })

const conflictOf = ({ expiresAt: until, ...facts }: Conflict) => ({ ...facts, until })

// How the change of one file waits, and under which claim it is made.
function holding({ wait_seconds = 10, claim_token: token }: Quick, signal?: AbortSignal): HoldOptions {
  return { wait: wait_seconds * 1000, lock: token === undefined ? undefined : { token }, signal, onEvent: log() }
}

// Relative to the workspace, as every call finds it; where there is none, to the working folder.
function pathOf(resource: string): string {
  checkPath('resource', resource)
  // Whoever claims these stops everybody, and a line more breaks them.
  if (/(^|[/\\])\.lockpact([/\\]|$)|\.lock(\.inner)*(\.guard)*$/.test(resource)) throw new LockError('EINVAL', `${show(resource)} is lockpact's own: claim the file that it is about`)
  if (resource === '' || resource.startsWith('name:') || isAbsolute(resource)) return resource
  const root = findWorkspaceIfAny(undefined)
  return root === undefined ? resource : root + sep + resource
}

// What happens to a lock is an event of the workspace, if there is one.
function log(): (event: LockEvent) => void {
  const root = findWorkspaceIfAny(undefined)
  return (event) => logLockEvent(root, event)
}

// What nobody knows is left out.
function known(content: object): object {
  return JSON.parse(JSON.stringify(content, (_name, value: unknown) => value ?? undefined)) as object
}
