import { ago, fs, plain, resolve, show } from '../core/index.js'
import { type Changes, createJob, deleteJob, FIELDS, type Job, type JobFields, jobHistory, type JobPatch, listJobs, type NewJob, overdueJobs, pauseJob, resumeJob, type Schedule, showJob, updateJob } from '../jobs/index.js'
import { findWorkspace } from '../work/index.js'
import { columns, type Command, count, duration, EXIT, Io, list, text, usageError, type Values } from './command.js'

type Verb = (name: string | undefined, values: Values, io: Io, words: string[], rest: string[]) => Promise<number> | number

export const command: Command = {
  usage: 'jobs add|list|show|update|pause|resume|delete|run|due|drift [JOB] [options] [-- COMMAND…]',
  about:
    'A roster of jobs that are updated in place: id, counters and history stay. JOB is a name or an id. run: gates by its slot, declares what ' +
    'it writes, gives the prompt to its command (stdin, and the file LOCKPACT_TASK_FILE), records the run. due: what is to be run now; with ' +
    '--run, runs it, each due time once however many ask: the one crontab line. drift: where a text in the roster and a file differ.',
  operands: [1, Infinity],
  takesCommand: true,
  options: {
    cron: { value: 'EXPR', about: "add, update: five fields, as '0 9 * * mon-fri'" },
    tz: { value: 'ZONE', about: "with --cron: as 'Europe/Berlin' (default: the machine's)" },
    every: { value: 'TIME', about: 'add, update: so long after the end of the last run; due --run: look so often, until a signal comes' },
    at: { value: 'TIME', about: 'add, update: once, as 2026-11-20T09:00:00Z' },
    task: { value: 'TEXT', about: "the prompt ('-': from stdin)" },
    'task-file': { value: 'FILE', about: 'the file with the prompt, read when the job is run: it cannot drift apart' },
    name: { value: 'NAME', about: 'update: another name' },
    description: { value: 'TEXT', about: 'what it is for' },
    writes: { value: 'P,…', list: true, about: 'what it will write' },
    policy: { value: 'P', about: 'when others write there: refuse, queue or warn' },
    slot: { value: 'KEY', about: 'ask the gate of this key' },
    'slot-every': { value: 'TIME', about: 'its rule: once in each period of this length' },
    'slot-offset': { value: 'TIME', about: 'moves these periods' },
    cooldown: { value: 'TIME', about: 'its rule: not sooner than this after the last that was done' },
    timeout: { value: 'TIME', about: 'end the command after this' },
    delivery: { value: 'CHANNEL:TARGET', about: 'where the result goes (LOCKPACT_DELIVERY_CHANNEL, …_TARGET)' },
    'delete-after-run': { about: 'with --at: delete the job when it has run well' },
    enable: { about: 'update: enabled again' },
    disable: { about: 'add, update: not due, whatever the schedule' },
    clear: { value: 'FIELD,…', list: true, about: 'update: take these fields away' },
    'if-rev': { value: 'N', about: 'update: only when it has not been changed since' },
    history: { about: 'show: what was changed and run, the oldest first' },
    run: { about: 'due: run what is due' },
    'at-once': { value: 'N', about: 'due --run: so many at the same time (default 4)' },
    done: { value: 'WHEN', about: "run, due: 'explicit': the slot is done only when the command said lockpact done" },
    owner: { value: 'LABEL', about: 'who, for people (default: the session)' },
  },
  examples: [
    "lockpact jobs add heartbeat --cron '*/15 * * * *' --task-file memory/heartbeat-prompt.md --slot heartbeat --cooldown 10m -- claude -p",
    "lockpact jobs update heartbeat --cron '*/30 * * * *'",
    '* * * * * cd /srv/agents && lockpact jobs due --run -q --conflict-exit-code 0',
    'lockpact lead memory/scheduler -- lockpact jobs due --run --every 30s',
  ],
  notes: ["run: the command's own, 128+n after a signal, 76 lost while running;", 'due --run: 1 a run has failed; drift: 1 something differs'],

  async run([verb, ...names], values, io, rest) {
    const known = Object.hasOwn(VERBS, verb!) ? VERBS[verb!] : undefined
    if (!known) throw usageError(`jobs has no ${show(verb)}; there are ${Object.keys(VERBS).join(', ')}`)
    if (verb !== 'drift' && names.length > 1) throw usageError(`jobs ${verb} takes one JOB, not ${names.length}: quote a name with spaces`)
    try {
      return await known(names[0], values, io, names, rest)
    } catch (error) {
      return io.fail(error)
    }
  },
}

const VERBS: Record<string, Verb> = {
  async add(name, values, io, _, rest) {
    const job = { name: asked(name), ...fieldsFrom(values, rest) } as NewJob
    const created = await createJob(job, optionsFrom(values))
    io.print({ job: created }, created.id)
    io.say(`added ${created.name}; ${whenOf(created)}`)
    return EXIT.done
  },

  list(name, _values, io) {
    if (name !== undefined) throw usageError('jobs list shows all; jobs show JOB shows one')
    return printList(listJobs(), io, 'no jobs; lockpact jobs add NAME … makes one')
  },

  show(name, values, io) {
    const [job, root] = [showJob(asked(name)), findWorkspace(undefined)]
    if (values['history'] !== true) {
      io.print({ job, scope: [root] }, JSON.stringify(job, null, 2))
      return EXIT.done
    }
    const history = jobHistory(job, root)
    io.print({ job, history, scope: [root] }, history.map(({ at, by, why, changed }) => plain(`${at} ${why ?? ''}${by ? ` by ${by}` : ''}${changed ? ` ${JSON.stringify(changed)}` : ''}`)).join('\n'))
    return EXIT.done
  },

  async update(name, values, io, _, rest) {
    const cleared = list(values, 'clear').map((field) => [camel(field), null])
    const renamed = text(values, 'name')
    const patch = { ...Object.fromEntries(cleared), ...fieldsFrom(values, rest), ...(renamed !== undefined && { name: renamed }) } as JobPatch
    const { job, changed } = await updateJob(asked(name), patch, { ...optionsFrom(values), ifRev: count(values, 'if-rev', 'the rev that you have read') })
    io.print({ job, changed }, wordsOf(changed))
    const fate = job.status === 'completed' || job.status === 'failed' ? `; it has ${job.status}, and stays so: lockpact jobs resume ${job.id}` : ''
    io.say(`${Object.keys(changed).length === 0 ? `${job.name} is so already` : `updated ${job.name}; ${whenOf(job)}`}${fate}`)
    return EXIT.done
  },

  pause: (name, values, io) => turn(pauseJob, 'paused', name, values, io),
  resume: (name, values, io) => turn(resumeJob, 'resumed', name, values, io),
  delete: (name, values, io) => turn(deleteJob, 'deleted', name, values, io),

  async run(name, values, io, _, rest) {
    const { fireOne } = await import('./fire.js')
    return fireOne(asked(name), firing(values, io, rest))
  },

  async due(name, values, io, _, rest) {
    if (name !== undefined) throw usageError('jobs due is about all jobs; jobs run JOB runs one')
    if (values['run'] !== true) return printList(overdueJobs(), io, 'nothing is due')
    const { fireDue } = await import('./fire.js')
    const everyMs = duration(values, 'every')
    if (everyMs !== undefined && everyMs < SHORTEST_MS) throw usageError(`--every must be at least ${SHORTEST_MS}ms`)
    return fireDue(firing(values, io, rest), count(values, 'at-once', 'a number') ?? AT_ONCE, everyMs)
  },

  async drift(_name, _values, io, files) {
    const { driftIn } = await import('./drift.js')
    const root = findWorkspace(undefined)
    const drift = driftIn(root, listJobs(), files.map((file) => resolve(file)))
    io.print({ drift, scope: [root] }, columns(drift.map(({ job, file, state, line }) => [state, plain(job), plain(file), line === null ? '' : `line ${line}`])).join('\n'))
    const copies = drift.filter(({ state }) => state !== 'missing')
    if (copies.length > 0) io.say(`a copy drifts; let the job read its file: lockpact jobs update JOB --task-file FILE`)
    if (drift.length === 0) io.say('no job has a copy of a file')
    return drift.some(({ state }) => state !== 'same') ? 1 : EXIT.done
  },
}

const SHORTEST_MS = 100
const AT_ONCE = 4

async function turn(act: (name: string, options: { owner?: string | undefined }) => Promise<Job>, done: string, name: string | undefined, values: Values, io: Io): Promise<number> {
  const job = await act(asked(name), optionsFrom(values))
  io.print({ job }, '')
  io.say(`${done} ${job.name}${done === 'resumed' ? `; ${whenOf(job)}` : ''}`)
  return EXIT.done
}

// ---- what is given ----

function asked(name: string | undefined): string {
  if (name === undefined) throw usageError('say which JOB: its name, or its id')
  return name
}

const optionsFrom = (values: Values) => ({ owner: text(values, 'owner') })

function firing(values: Values, io: Io, command: string[]) {
  const done = text(values, 'done') ?? 'exit'
  if (done !== 'exit' && done !== 'explicit') throw usageError(`--done is exit or explicit, not ${done}`)
  return { root: findWorkspace(undefined), io, words: new Io({ ...values, json: false }), command, isExplicit: done === 'explicit' }
}

function fieldsFrom(values: Values, rest: string[]): Partial<JobFields> {
  const [task, taskSource, description, policy, timeout] = ['task', 'task-file', 'description', 'policy', 'timeout'].map((name) => text(values, name))
  const writes = list(values, 'writes')
  if (values['enable'] && values['disable']) throw usageError('give --enable or --disable')
  if (timeout !== undefined) duration(values, 'timeout')
  const [schedule, slot, delivery] = [scheduleFrom(values), slotFrom(values), deliveryFrom(text(values, 'delivery'))]
  return {
    ...(description !== undefined && { description }),
    ...((values['enable'] || values['disable']) && { enabled: values['enable'] === true }),
    ...(schedule && { schedule }),
    ...(task !== undefined && { task: task === '-' ? fs.readFileSync(0, 'utf8') : task }),
    ...(taskSource !== undefined && { taskSource: resolve(taskSource) }),
    ...(rest.length > 0 && { command: rest }),
    ...(delivery && { delivery }),
    ...(writes.length > 0 && { writes }),
    ...(policy !== undefined && { policy: policy as 'warn' }),
    ...(slot && { slot }),
    ...(timeout !== undefined && { timeout: timeout as '1m' }),
    ...(values['delete-after-run'] === true && { deleteAfterRun: true }),
  }
}

function scheduleFrom(values: Values): Schedule | undefined {
  const [expr, tz, every, at] = ['cron', 'tz', 'every', 'at'].map((name) => text(values, name))
  if ([expr, every, at].filter((each) => each !== undefined).length > 1) throw usageError('give one of --cron, --every and --at')
  if (tz !== undefined && expr === undefined) throw usageError('--tz is about --cron; give that too')
  if (expr !== undefined) return { kind: 'cron', expr, ...(tz !== undefined && { tz }) }
  if (every !== undefined) {
    duration(values, 'every')
    return { kind: 'every', every: every as '1m' }
  }
  return at === undefined ? undefined : { kind: 'at', at }
}

function slotFrom(values: Values): JobFields['slot'] | undefined {
  const key = text(values, 'slot')
  const rule = Object.entries({ every: 'slot-every', offset: 'slot-offset', cooldown: 'cooldown' }).flatMap(([field, name]) => {
    if (text(values, name) === undefined) return []
    duration(values, name)
    return [[field, text(values, name)]]
  })
  if (key === undefined && rule.length > 0) throw usageError('--slot-every, --slot-offset and --cooldown are about a slot; give --slot KEY too')
  return key === undefined ? undefined : { key, ...Object.fromEntries(rule) }
}

function deliveryFrom(value: string | undefined): JobFields['delivery'] | undefined {
  if (value === undefined) return undefined
  const [, channel, target] = /^([^:]+):(.+)$/s.exec(value) ?? []
  if (channel === undefined || target === undefined) throw usageError(`--delivery takes CHANNEL:TARGET, as slack:#ops, not ${show(value)}`)
  return { channel, target }
}

// As the options are written.
const camel = (field: string) => (field === 'task-file' ? 'taskSource' : (FIELDS.find((name) => name.toLowerCase() === field.replaceAll('-', '').toLowerCase()) ?? field))

// ---- words ----

function printList(jobs: Job[], io: Io, none: string): number {
  io.print({ jobs, scope: [findWorkspace(undefined)] }, table(jobs))
  if (jobs.length === 0) io.say(none)
  return EXIT.done
}

function table(jobs: Job[]): string {
  if (jobs.length === 0) return ''
  const rows = jobs.map((job) => {
    const { status, enabled, running, name, nextRunAt, lastRunAt, lastRunStatus, runCount, consecutiveErrors, lastRunError } = job
    const state = running ? 'running' : enabled ? status : 'disabled'
    const last = lastRunAt === null ? '-' : `${lastRunStatus} ${ago(lastRunAt)}`
    return [state, plain(name), plain(scheduleWords(job)), nextRunAt ?? '-', last, String(runCount), String(consecutiveErrors), plain(lastRunError ?? '')]
  })
  return columns([['STATE', 'NAME', 'SCHEDULE', 'NEXT', 'LAST', 'RUNS', 'FAILED', 'ERROR'], ...rows]).join('\n')
}

function scheduleWords({ schedule }: Job): string {
  switch (schedule.kind) {
    case 'at':
      return 'once'
    case 'every':
      return `every ${schedule.every}`
    case 'cron':
      return schedule.expr + (schedule.tz === undefined ? '' : ` ${schedule.tz}`)
  }
}

const whenOf = ({ nextRunAt }: Job) => (nextRunAt === null ? 'it is not due' : `due at ${nextRunAt}`)

function wordsOf(changed: Changes): string {
  return Object.entries(changed)
    .map(([field, { before, after }]) => plain(`${field}: ${short(before)} -> ${short(after)}`))
    .join('\n')
}

function short(value: unknown): string {
  const words = value === null ? '(none)' : typeof value === 'string' ? value : JSON.stringify(value)
  return words.length > 60 ? `${words.slice(0, 57)}…` : words
}
