/**
 * Jobs, and who may drive them.
 *
 * @module
 */
export { nextRun, type Schedule } from './jobs/index.js'
