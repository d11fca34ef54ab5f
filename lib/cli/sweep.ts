import { plain, resolve, sweepLocks } from '../core/index.js'
import type { Command } from './command.js'

export const command: Command = {
  usage: 'sweep [FOLDER] [options]',
  about:
    'Removes stale locks below a folder (default: here), and says what and why. What is held, and what is not a lock of ours, stays. ' +
    'Hardly anything needs this: a stale lock is recovered from by whoever wants it next.',
  operands: [0, 1],
  options: { 'dry-run': { about: 'only say what would be removed' } },
  examples: ['lockpact sweep memory --dry-run'],

  async run([folder = '.'], values, io) {
    const swept = await sweepLocks(folder, { dryRun: values['dry-run'] === true })
    io.print(
      { swept, scope: [resolve(folder)] },
      swept.map(({ action, lockFile, why }) => `${action} ${plain(lockFile)}: ${why}`).join('\n'),
    )
    if (swept.length === 0) io.say(`no locks below ${resolve(folder)}`)
    return 0
  },
}
