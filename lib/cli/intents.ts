import { ago, plain } from '../core/index.js'
import { findWorkspace, listIntents, withdrawWrites } from '../work/index.js'
import { columns, type Command, text } from './command.js'
import { ending, inHand } from './session.js'

export const intents: Command = {
  usage: 'intents [options]',
  about: 'Who has declared which writes, in the order of submission.',
  operands: [0, 0],
  options: {},
  examples: ['lockpact intents', 'lockpact intents --json'],

  async run(_, _values, io) {
    const root = findWorkspace(undefined)
    const found = listIntents()
    const rows = found.map(({ state, task, owner, since, expiresAt, writes }) => [
      state,
      plain(task),
      plain(owner ?? '-'),
      ago(since),
      expiresAt,
      plain(writes.join(' ')),
    ])
    io.print({ intents: found, scope: [root] }, rows.length === 0 ? '' : columns([['STATE', 'TASK', 'OWNER', 'SINCE', 'UNTIL', 'WRITES'], ...rows]).join('\n'))
    if (rows.length === 0) io.say('nothing is declared')
    return 0
  },
}

export const withdraw: Command = {
  usage: 'withdraw [--task T] [options]',
  about: 'Ends what a task has declared. Without --task: the newest that this session has declared.',
  operands: [0, 0],
  options: {
    task: { value: 'T', about: "the task's name" },
    token: { value: 'T', about: "what declare printed (default: the session's)" },
  },
  examples: ['lockpact withdraw --task weekly-report --token "$TOKEN"', 'lockpact withdraw'],

  async run(_, values, io) {
    const given = text(values, 'task')
    try {
      const root = findWorkspace(undefined)
      const { name: task, token } = inHand(root, 'intent', { name: given, token: text(values, 'token') }, 'declare')
      await ending(root, token, () => withdrawWrites(task, token))
      io.print({ withdrawn: true, task }, '')
      io.say(`withdrawn: ${plain(task)}`)
      return 0
    } catch (error) {
      return io.fail(error, { withdrawn: false, task: given ?? null })
    }
  },
}
