import { ago, forPeople, LockError, plain, show } from '../core/index.js'
import { completeSlot, type EndOptions, failSlot, findWorkspace, freeSlot, listSlots, type SlotState } from '../work/index.js'
import { columns, type Command, text } from './command.js'
import { ending, inHand } from './session.js'

type Ending = 'done' | 'failed' | 'free'

const end = (name: string, about: string, outcome: Ending, call: (key: string, token: string, options: EndOptions) => Promise<void>): Command => ({
  usage: `${name} [KEY] [options]`,
  about: `${about} Without KEY: that of the run around this command (LOCKPACT_SLOT), else the newest that this session has in hand.`,
  operands: [0, 1],
  options: {
    token: { value: 'T', about: "what gate printed (default: the session's)" },
    note: { value: 'TEXT', about: 'one line for those who ask next' },
  },
  examples: [`lockpact ${name} --note "${outcome === 'done' ? 'replied to the review' : outcome === 'failed' ? 'no network' : 'nothing new'}"`, `lockpact ${name} heartbeat --token "$TOKEN"`],

  async run([given], values, io) {
    let key = given ?? (process.env['LOCKPACT_SLOT'] || undefined)
    try {
      const root = findWorkspace(undefined)
      const note = text(values, 'note')
      const given = text(values, 'token')
      const record = listSlots().find((each) => each.key === key)
      // Said a second time, inside one run.
      if (given === undefined && record && !record.running) throw new LockError('ENOTACQUIRED', `nobody is at ${show(key)}: the last run ended as ${record.last?.outcome} at ${record.last?.at}`)
      const { name, token } = inHand(root, 'slot', { name: key, token: given }, 'gate')
      key = name
      await ending(root, token, () => call(name, token, { note }))
      io.print({ ended: true, key, outcome, note: note ?? null }, '')
      io.say(`${plain(key)}: ${outcome}`)
      return 0
    } catch (error) {
      return io.fail(error, { ended: false, key: key ?? null })
    }
  },
})

export const done = end('done', 'Ends a run: shipped. Whoever asks within the same period, or cooldown, is told so.', 'done', completeSlot)
export const fail = end('fail', 'Ends a run: failed. The slot is open again at once, and the failure counted.', 'failed', failSlot)
export const free = end('free', 'Ends a run: there was nothing to ship. The slot is open again at once.', 'free', freeSlot)

export const slots: Command = {
  usage: 'slots [options]',
  about: 'All slots of the workspace: who is at what, what was done when, and how often it has failed since.',
  operands: [0, 0],
  options: {},
  examples: ['lockpact slots', 'lockpact slots --json'],

  async run(_, _values, io) {
    const root = findWorkspace(undefined)
    const found = listSlots()
    io.print({ slots: found, scope: [root] }, table(found))
    if (found.length === 0) io.say('no slots; lockpact gate KEY makes one')
    return 0
  },
}

function table(found: SlotState[]): string {
  if (found.length === 0) return ''
  const rows = found.toSorted((a, b) => RANK.indexOf(a.state) - RANK.indexOf(b.state)).map(({ key, state, why, running, failures, last }) => [
    state,
    plain(key),
    plain((running ?? last)?.slot ?? '-'),
    plain((running ?? last)?.by ?? '-'),
    ago(running ? running.since : last?.at),
    String(failures),
    plain(why ? `${why === 'dead' ? 'its process is dead' : 'its time is over'}: open for the next who asks` : running ? `${forPeople(Math.max(0, Date.parse(running.until) - Date.now()))} left` : (last?.note ?? '')),
  ])
  return columns([['STATE', 'KEY', 'SLOT', 'BY', 'SINCE', 'FAILED', 'NOTE'], ...rows]).join('\n')
}

// What somebody may have to look at comes first.
const RANK: SlotState['state'][] = ['stale', 'failed', 'lost', 'running', 'done', 'free']
