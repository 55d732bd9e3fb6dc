// What figures mean: how far one may grow, which have grown further, and how sure a ratio of times is. Pure functions.

/** How far each kind of metric may grow: 3 interquartile ranges of its repeats, within these bounds, or by a number. */
const TOLERANCES = {
  instructions: { least: 0.005, most: 0.02 },
  allocated_bytes: { least: 0.005, most: 0.02 },
  // A stream takes as many calls as its socket's buffer was filled and emptied meanwhile, which changes by up to 600 with
  // what else the machine does, and from hour to hour. One call more for each MiB is 1,024 more for each GiB.
  syscalls_per_gib: { number: 800 },
  syscalls_per_1000_files: { least: 0.02, most: 0.1 },
  // How many requests one call carries is up to what has come meanwhile. A call more for each request, or batch, is half as many
  // again at least.
  syscalls_per_1000_requests: { least: 0.2, most: 0.5 },
  fsyncs_per_file: { least: 0.01, most: 0.1 },
  size: { least: 0.01, most: 0.01 },
}
const TOLERANCE_IQRS = 3

/** A ratio of times whose control is noisier than this says nothing. */
const CONTROL_NOISE_MAX = 0.03
const RESAMPLES = 2000

/** By how much a metric may grow, as a share of its median. */
export function toleranceOf(name, values) {
  const { least, most, number } = TOLERANCES[name.split('.')[0]]
  const noise = (TOLERANCE_IQRS * interquartileRange(values)) / median(values) || 0
  const share = number === undefined ? Math.min(Math.max(noise, least), most) : number / median(values)
  return Math.ceil(share * 1e4) / 1e4
}

/**
 * Holds `measured`, values by metric, against `reference`, `{ value, tolerance }` by metric.
 *
 * The verdict on each is `worse`, `same` or `better`; `new` if the reference does not know it, and `unmeasured` if it was
 * not measured here. Only `worse` is a failure.
 */
export function judge(reference, measured) {
  const names = [...new Set([...Object.keys(reference), ...Object.keys(measured)])].sort()
  return names.map((name) => {
    const value = measured[name] && median(measured[name])
    const expected = reference[name]
    if (value === undefined) return { name, base: expected.value, verdict: 'unmeasured' }
    if (expected === undefined) return { name, value, verdict: 'new' }
    const { value: base, tolerance } = expected
    const verdict =
      value > base * (1 + tolerance) ? 'worse' : value < base * (1 - tolerance) ? 'better' : 'same'
    return { name, base, value, tolerance, verdict }
  })
}

export function median(values) {
  return quantile(values, 0.5)
}

function interquartileRange(values) {
  return quantile(values, 0.75) - quantile(values, 0.25)
}

/** Between two values it is taken from the line that joins them. */
function quantile(values, share) {
  const sorted = values.toSorted((left, right) => left - right)
  const at = (sorted.length - 1) * share
  const below = sorted[Math.floor(at)]
  return below + (sorted[Math.ceil(at)] - below) * (at % 1)
}

/**
 * The ratio of head's time to base's over `pairs` of `{ base, head }`, and the interval that holds it with 95 %: the median
 * of the pairs' ratios, and of as many drawn from them with replacement (Efron 1979, the percentile bootstrap).
 *
 * @param random a source of numbers from 0 to 1
 */
export function ratioOf(pairs, random = Math.random) {
  const ratios = pairs.map(({ base, head }) => head / base)
  const draw = () => ratios[Math.floor(random() * ratios.length)]
  const medians = Array.from({ length: RESAMPLES }, () => median(ratios.map(draw)))
  return { ratio: median(ratios), low: quantile(medians, 0.025), high: quantile(medians, 0.975) }
}

/** What the interval of a ratio says, given that of the control, which compared a build with itself. */
export function timeVerdict(control, { low, high }) {
  const isNoisy = control.high > 1 + CONTROL_NOISE_MAX || control.low < 1 - CONTROL_NOISE_MAX
  if (isNoisy) return 'inconclusive'
  return low > 1 ? 'slower' : high < 1 ? 'faster' : 'no difference found'
}
