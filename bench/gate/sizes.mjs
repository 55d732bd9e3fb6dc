// Bytes of what is shipped.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../../cli/bench/processes.mjs'

/** The figures by metric. `checkout` is a built one. */
export async function count(checkout) {
  const native = join(checkout, 'native')
  const addons = readdirSync(native).filter((name) => name.endsWith('.node'))
  if (addons.length !== 1)
    throw new Error(`${native} holds ${addons.length} addons; remove all but this system's`)
  const { stdout } = await run('npm', 'pack', '--json', '--dry-run', checkout)
  const [{ size }] = JSON.parse(stdout)
  return { 'size.addon': statSync(join(native, addons[0])).size, 'size.package': size }
}
