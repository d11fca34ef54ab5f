import { locate, plain, quoted } from '../core/index.js'
import { finishItem, type HoldOptions, type Item, returnItem, takeItem } from '../files/index.js'
import { type Command, duration, type Option, text as textIn, type Values } from './command.js'
import { holdingOf, holdOptions } from './files.js'
import { ending, inHand, keep, printOr, withToken, workspaceIfAny } from './session.js'

export const take: Command = {
  usage: 'take QUEUE [options]',
  about:
    'Takes the first open item (- [ ]) of a Markdown queue: prints its token, and below that its text. The item is yours until you ' +
    'finish or return it; after --ttl it is open again.',
  operands: [1, 1],
  options: { ttl: { value: 'TIME', about: 'how long it is yours (default 1h)' }, ...holdOptions },
  examples: ['lockpact take memory/contribution-queue.md --owner hourly', 'lockpact take memory/contribution-queue.md --json'],
  notes: ['75 there is no open item'],

  async run([queue], values, io) {
    try {
      const root = workspaceIfAny()
      const taken = await takeItem(queue!, { ...holdingOf(root, queue!, values), ttl: duration(values, 'ttl') })
      if (!taken) return io.refuse({ item: null }, `there is no open item in ${queue}`)
      const { item, token, until } = taken
      await keep(root, { kind: 'item', name: locate(queue!).file, token, until }, io)
      const text = item.text.split('\n').map(plain).join('\n')
      const undo = () => returnItem(queue!, token, holdingOf(root, queue!, values))
      await printOr(undo, root, token, () => io.print({ item, token, until }, `${token}\n${text}`))
      io.say(`yours until ${until}; then: lockpact finish ${quoted(queue!)}${withToken(root) && ` --token ${token}`} --result "…"`)
      return 0
    } catch (error) {
      return io.fail(error, { item: null })
    }
  },
}

const settling = (name: string, about: string, done: string, more: Record<string, Option>, call: (queue: string, token: string, options: HoldOptions, values: Values) => Promise<Item>): Command => ({
  usage: `${name} [QUEUE] [options]`,
  about: `${about} Without QUEUE and --token: the newest item that this session has in hand.`,
  operands: [0, 1],
  options: { token: { value: 'T', about: "what take printed (default: the session's)" }, ...more, ...holdOptions },
  examples: [`lockpact ${name} memory/contribution-queue.md --token "$TOKEN"`, `lockpact ${name}`],

  async run([given], values, io) {
    try {
      const root = workspaceIfAny()
      const path = given === undefined ? undefined : locate(given).file
      const { name: queue, token } = inHand(root, 'item', { name: path, token: textIn(values, 'token') }, 'take')
      const item = await ending(root, token, () => call(queue, token, holdingOf(root, queue, values), values))
      io.print({ [done]: true, item }, '')
      io.say(`${done}: line ${item.line} of ${queue}`)
      return 0
    } catch (error) {
      return io.fail(error, { [done]: false })
    }
  },
})

export const finish = settling(
  'finish',
  'Ticks an item that was taken, with its result behind it.',
  'finished',
  { result: { value: 'TEXT', about: 'one line, written behind the item' } },
  (queue, token, options, values) => finishItem(queue, token, { ...options, result: textIn(values, 'result') }),
)

export const giveBack = settling('return', 'Opens an item again that was taken.', 'returned', {}, returnItem)
