// One client of the kill loop: pushes one version after another and tells on stdout what it begins and what was acknowledged.
// node pusher.mjs ADDRESS FOLDER FIRST_VERSION SOURCE…
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'xferd'
import { sourceOf, targetOf } from './versions.mjs'

/** How long a push may fail for now. */
const PATIENCE_MS = 60_000
const PAUSE_MS = 100

const [address, folder, first, ...sources] = process.argv.slice(2)
let isStopping = false
process.on('SIGTERM', () => {
  isStopping = true
})
for (let version = Number(first); !isStopping; version++) {
  tell({ begun: version })
  const { resumedBytes } = await push(version)
  tell({ acknowledged: version, resumedBytes })
}

async function push(version) {
  for (const startMs = performance.now(); ; ) {
    let client
    try {
      client = await connect(address)
      return await client.push(sourceOf(sources, version), `${folder}/${targetOf(version)}`, { resume: true })
    } catch (error) {
      if (!error.retryable || performance.now() - startMs > PATIENCE_MS) {
        tell({ failed: version, code: error.code, message: error.message })
        process.exit(1)
      }
      await sleep(PAUSE_MS)
    } finally {
      await client?.close()
    }
  }
}

/** At once, so that it is told although this process may be killed right after. */
function tell(line) {
  writeSync(1, `${JSON.stringify(line)}\n`)
}
