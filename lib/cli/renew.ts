import { renewLock } from '../core/index.js'
import { type Command, placeOf } from './command.js'
import { keep, lockInHand, lockOptions, workspaceIfAny } from './session.js'

export const command: Command = {
  usage: 'renew RESOURCE [--token T] [options]',
  about:
    'Makes the lease of a lock begin anew, with the TTL that it was taken with; one that its own process renews is left to that. ' +
    "Without --token: the newest that this session has of it. Exit status 77 when the token is not the holder's.",
  operands: [1, 1],
  input: 'resource',
  options: lockOptions,
  examples: ['lockpact renew memory/queue.md --token "$TOKEN"'],

  async run([resource], values, io) {
    try {
      const root = workspaceIfAny()
      const { token, options } = lockInHand(root, resource!, values)
      const { expiresAt = null, renews } = await renewLock(resource!, token, options)
      const { file, lockFile } = placeOf(resource!, options)
      await keep(root, { kind: 'lock', name: file, token, lockFile, until: renews ? null : expiresAt }, io)
      io.print({ renewed: true, file, lockFile, expiresAt }, '')
      io.say(`holding ${resource} ${expiresAt ? `until ${expiresAt}` : 'until it is released'}`)
      return 0
    } catch (error) {
      return io.fail(error, { renewed: false })
    }
  },
}
