import type { Stamp } from './stamp.js'

/** What happened to a lock, for `onEvent`. What a listener throws is dropped. */
export interface LockEvent {
  /**
   * | type | `ms` | `holder` |
   * | --- | --- | --- |
   * | `waiting`, once | | who has it |
   * | `acquired` | waited | a dead or expired one that it was recovered from |
   * | `refused` | waited | who has it |
   * | `lost`, `released` | held | |
   * | `stuck`: it cannot be released now, which is tried again in the background | held | |
   */
  type: 'waiting' | 'acquired' | 'refused' | 'lost' | 'released' | 'stuck'
  file: string
  lockFile: string
  owner?: string | undefined
  holder?: Stamp | undefined
  /** Milliseconds. */
  ms?: number
}
