import { isLockError, quoted, show } from '../core/index.js'
import { type Conflict, type ConflictError, declareWrites, findWorkspace, type Policy } from '../work/index.js'
import { type Command, duration, list, needed, pidIn, text, usageError } from './command.js'
import { keep, printOr, withToken } from './session.js'

export const command: Command = {
  usage: 'declare --task T --writes A,B [options]',
  about:
    'Says which paths a task will write, before it starts: all or nothing. Refused when another task has declared one of them (or what ' +
    'is above or below it), or somebody else holds its lock. End it with withdraw; else it ends after --ttl.',
  operands: [0, 0],
  input: 'task',
  options: {
    task: { value: 'T', about: "the task's name; a task is not in its own way" },
    writes: { value: 'A,B', about: 'files, folders, parts (queue.md::head), free names (name:deploy); may be given again', list: true },
    policy: { value: 'P', about: 'when others are at it: refuse (default), queue, or warn' },
    wait: { value: 'TIME', about: 'how long to stay in the queue (default: until it is our turn)' },
    ttl: { value: 'TIME', about: 'how long it is good for (default 1h)' },
    owner: { value: 'LABEL', about: 'who, for people' },
    pid: { value: 'N', about: 'bind it to a living process: it ends as soon as that is dead' },
  },
  examples: ['lockpact declare --task weekly-report --writes memory/queue.md,reports', 'lockpact declare --task tidy --writes memory --policy queue --wait 10m'],

  async run(_, values, io) {
    const task = needed(values, 'task', 'the name of the task')
    const writes = list(values, 'writes')
    if (writes.length === 0) throw usageError('--writes is missing: what the task will write, A,B')
    try {
      const policy = text(values, 'policy') as Policy | undefined
      const [ttl, wait] = [duration(values, 'ttl'), duration(values, 'wait', 'forever')]
      const waits = (conflicts: Conflict[]) => {
        if (policy !== 'warn') io.say(`in the way: ${wordsFor(conflicts)}`)
      }
      const intent = await declareWrites({ task, writes, policy, ttl, wait, owner: text(values, 'owner'), pid: pidIn(values), ...(policy === 'queue' && { onConflict: waits }) })
      const { token, overlaps, expiresAt } = intent
      const root = findWorkspace(undefined)
      const next = `lockpact withdraw --task ${quoted(task)}${withToken(root)}`
      await keep(root, { kind: 'intent', name: task, token, until: expiresAt }, io)
      await printOr(() => intent.release(), root, token, () => io.print({ granted: true, task, token, writes: intent.writes, overlaps, expiresAt, next }, token))
      if (overlaps.length > 0) io.say(`careful, others are at it: ${wordsFor(overlaps)}`)
      io.say(`declared until ${expiresAt}; then: ${next}`)
      return 0
    } catch (error) {
      if (!isLockError(error) || error.code !== 'ELOCKED') return io.fail(error, { granted: false, task })
      const { conflicts = [] } = error as Partial<ConflictError>
      return io.refuse({ granted: false, task, conflicts, message: error.message }, error.message)
    }
  },
}

const wordsFor = (conflicts: Conflict[]) => conflicts.map(({ path, task, owner }) => `${path} (${task === null ? `locked by ${owner === null ? 'somebody' : show(owner)}` : show(task)})`).join(', ')
