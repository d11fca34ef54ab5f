import { plain, quoted, show } from '../core/index.js'
import { findWorkspace, gate, type Go } from '../work/index.js'
import { type Command, duration, pidIn, text } from './command.js'
import { skipWords } from './skip.js'

export const command: Command = {
  usage: 'gate KEY [options]',
  about:
    'Asks, before any work is begun, whether it is to be done: go (prints the token), or skip, because somebody is at it or has done ' +
    'it. All who ask for KEY share its record; the rule (--every, --cooldown or --slot) is your own. Without a rule it is refused only ' +
    'while somebody is at it. End a run with done, fail or free; else it is open again after --ttl.',
  operands: [1, 1],
  input: 'key',
  options: {
    every: { value: 'TIME', about: 'once in each period of this length, e.g. 1h (counted from midnight UTC)' },
    offset: { value: 'TIME', about: 'moves the periods of --every' },
    cooldown: { value: 'TIME', about: 'not sooner than this after the last that was done' },
    slot: { value: 'NAME', about: 'once for this name, e.g. a date' },
    ttl: { value: 'TIME', about: 'how long a run may take (default 1h)' },
    owner: { value: 'LABEL', about: 'who, for people' },
    pid: { value: 'N', about: 'bind it to a living process: open again as soon as that is dead' },
  },
  examples: [
    'lockpact gate heartbeat --cooldown 15m --owner hourly',
    'lockpact gate report --every 1d --offset 6h --json',
    'lockpact gate heartbeat --cooldown 15m --emit wake',
  ],
  notes: ['75 skip: somebody is at it, or it has been done'],

  async run([key], values, io) {
    const [every, offset, cooldown, ttl] = ['every', 'offset', 'cooldown', 'ttl'].map((name) => duration(values, name))
    const answer = await gate(key!, { every, offset, cooldown, ttl, slot: text(values, 'slot'), owner: text(values, 'owner'), pid: pidIn(values) })
    if (!answer.go) return io.refuse(answer, skipWords(answer))
    // A skip has to be cheap.
    const { keep, printOr, withToken } = await import('./session.js')
    const { go, slot, token, expiresAt, recovered, failures } = answer
    const root = findWorkspace(undefined)
    const next = `lockpact done ${quoted(key!)}${withToken(root)} --note "…"`
    await keep(root, { kind: 'slot', name: key!, token, until: expiresAt }, io)
    await printOr(answer.free, root, token, () => io.print({ go, key, slot, token, expiresAt, recovered, failures, next }, token))
    for (const words of warnings(answer)) io.say(words)
    io.say(`go: ${plain(key!)}${slot === null ? '' : ` (${plain(slot)})`} is yours until ${expiresAt}; then: ${next}`)
    return 0
  },
}

function warnings({ recovered, failures }: Go): string[] {
  const how = recovered?.why === 'dead' ? 'died' : 'ran out of time'
  return [
    ...(recovered ? [`the run before, of ${recovered.by === null ? 'somebody' : show(recovered.by)} since ${recovered.since}, ${how}; its work may be half done`] : []),
    ...(failures > 1 ? [`the last ${failures} runs failed`] : []),
  ]
}
