import { breakLock, describeHold, describeHolder } from '../core/index.js'
import { type Command, needed, text } from './command.js'

export const command: Command = {
  usage: 'break RESOURCE --reason TEXT [options]',
  about: 'Removes a lock by force, whoever holds it. Make sure first that its holder is dead: one that lives may go on writing.',
  operands: [1, 1],
  options: {
    reason: { value: 'TEXT', about: 'why; for those who ask later' },
    'lock-file': { value: 'PATH', about: 'another lock file than RESOURCE.lock' },
  },
  examples: ["lockpact break memory/queue.md --reason 'its machine is gone'"],

  async run([resource], values, io) {
    const lockFile = text(values, 'lock-file')
    const { file, lockFile: path, state, stamp } = await breakLock(resource!, { reason: needed(values, 'reason', 'say why'), ...(lockFile !== undefined && { lockFile }) })
    io.print({ broken: state !== 'free', file, lockFile: path, was: stamp ?? null }, '')
    io.say(state === 'free' ? `${file} was not locked` : stamp ? `broke the lock of ${describeHolder(stamp)}, ${describeHold(stamp)}` : `removed ${path}`)
    return 0
  },
}
