import { renewLock } from '../core/index.js'
import { byToken, type Command, placeOf, tokenOptions } from './command.js'

export const command: Command = {
  usage: 'renew RESOURCE --token T [options]',
  about:
    "Makes the lease of a lock begin anew, with the TTL that it was taken with. Exit status 77 when the token is not the holder's.",
  operands: [1, 1],
  options: tokenOptions,
  examples: ['lockpact renew memory/queue.md --token "$TOKEN"'],

  async run([resource], values, io) {
    const { token, options } = byToken(values)
    try {
      const { expiresAt = null } = await renewLock(resource!, token, options)
      io.print({ renewed: true, ...placeOf(resource!, options), expiresAt }, '')
      io.say(`holding ${resource} ${expiresAt ? `until ${expiresAt}` : 'until it is released'}`)
      return 0
    } catch (error) {
      return io.fail(error, { renewed: false })
    }
  },
}
