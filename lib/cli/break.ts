import { breakLock, describeHold, describeHolder } from '../core/index.js'
import { logEvent, nameIn } from '../work/index.js'
import { type Command, needed, text } from './command.js'
import { workspaceIfAny } from './session.js'

export const command: Command = {
  usage: 'break RESOURCE --reason TEXT [options]',
  about: 'Removes a lock by force, whoever holds it. Make sure first that its holder is dead: one that lives may go on writing.',
  operands: [1, 1],
  options: {
    reason: { value: 'TEXT', about: 'why it is safe' },
    'lock-file': { value: 'PATH', about: 'another lock file than RESOURCE.lock' },
  },
  examples: ["lockpact break memory/queue.md --reason 'its machine is gone'"],

  async run([resource], values, io) {
    const given = text(values, 'lock-file')
    const reason = needed(values, 'reason', 'say why it is safe')
    const { file, lockFile, state, stamp } = await breakLock(resource!, {
      reason,
      ...(given !== undefined && { lockFile: given }),
    })
    const root = workspaceIfAny()
    if (root !== undefined && state !== 'free') logEvent(root, { type: 'broken', what: nameIn(root, file), against: stamp?.owner ?? null, why: reason })
    io.print({ broken: state !== 'free', file, lockFile, was: stamp ?? null, reason }, '')
    if (state === 'free') io.say(`${file} was not locked`)
    else
      io.say(
        `${stamp ? `broke the lock of ${describeHolder(stamp)}, ${describeHold(stamp)}` : `removed ${lockFile}`}. Reason: ${reason}`,
      )
    return 0
  },
}
