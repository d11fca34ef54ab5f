import { releaseLock } from '../core/index.js'
import { byToken, type Command, placeOf, tokenOptions } from './command.js'

export const command: Command = {
  usage: 'release RESOURCE --token T [options]',
  about: "Gives a lock back. Exit status 77 when the token is not the holder's.",
  operands: [1, 1],
  options: tokenOptions,
  examples: ['lockpact release memory/queue.md --token "$TOKEN"'],

  async run([resource], values, io) {
    const { token, options } = byToken(values)
    try {
      await releaseLock(resource!, token, options)
      io.print({ released: true, ...placeOf(resource!, options) }, '')
      io.say(`released ${resource}`)
      return 0
    } catch (error) {
      return io.fail(error, { released: false })
    }
  },
}
