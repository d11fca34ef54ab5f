import { describeHolder, idOf, inspectLock, inspectLockFile, releaseLock } from '../core/index.js'
import { logLockEvent } from '../work/index.js'
import { type Command, placeOf } from './command.js'
import { ending, lockInHand, lockOptions, workspaceIfAny } from './session.js'

export const command: Command = {
  usage: 'release RESOURCE [--token T] [options]',
  about: "Gives a lock back. Without --token: the newest that this session has of it. Exit status 77 when the token is not the holder's.",
  operands: [1, 1],
  input: 'resource',
  options: lockOptions,
  examples: ['lockpact release memory/queue.md --token "$TOKEN"', 'lockpact release memory/queue.md'],

  async run([resource], values, io) {
    try {
      const root = workspaceIfAny()
      const { token, options } = lockInHand(root, resource!, values)
      const { stamp, lockFile } = inspectLock(resource!, options)
      const inner = inspectLockFile(`${lockFile}.inner`)
      if (inner.state === 'held') return io.refuse({ released: false, holder: inner.stamp ?? null }, `${describeHolder(inner.stamp)} still goes on under this lock: end that first`)
      await ending(root, token, () => releaseLock(resource!, token, options))
      const place = placeOf(resource!, options)
      const since = stamp?.id === idOf(token) ? Date.parse(stamp.acquiredAt ?? '') : NaN
      logLockEvent(root, { type: 'released', ...place, owner: stamp?.owner, ms: Date.now() - since })
      io.print({ released: true, ...place }, '')
      io.say(`released ${resource}`)
      return 0
    } catch (error) {
      return io.fail(error, { released: false })
    }
  },
}
