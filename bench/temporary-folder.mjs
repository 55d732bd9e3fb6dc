// Where a benchmark script keeps what it moves.
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killAll } from '../cli/bench/processes.mjs'

/** A new folder that goes with this process, also if that is interrupted, after the programs it launched. */
export function temporaryFolder(name) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `xferd-${name}-`)))
  process.on('exit', () => {
    killAll()
    // What was killed just now may still be finishing a write.
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  })
  process.on('SIGINT', () => process.exit(130))
  process.on('SIGTERM', () => process.exit(143))
  return folder
}
