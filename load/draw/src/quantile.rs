//! The quantile functions of the two families that fitted Facebook's memcached traffic (Atikoglu et al., SIGMETRICS 2012).

/// The value that a share `u` of a generalized extreme value distribution lies under: location `mu`, scale `sigma` > 0, shape `xi`
/// (positive: a heavy upper tail). Solves `exp(-(1 + xi (x - mu) / sigma)^(-1/xi)) = u`; the limit `xi = 0` is Gumbel's.
/// `u` is in 0..1; at the ends the answer may be infinite.
pub fn gev(u: f64, mu: f64, sigma: f64, xi: f64) -> f64 {
    mu + sigma * stretch(-(-u.ln()).ln(), xi)
}

/// The value that a share `u` of a generalized Pareto distribution lies under: location `mu`, scale `sigma` > 0, shape `xi`.
/// Solves `1 - (1 + xi (x - mu) / sigma)^(-1/xi) = u`; the limit `xi = 0` is the exponential distribution. `u` is in 0..1.
pub fn gpareto(u: f64, mu: f64, sigma: f64, xi: f64) -> f64 {
    mu + sigma * stretch(-(-u).ln_1p(), xi)
}

/// `(exp(xi y) - 1) / xi`, and `y` in the limit `xi = 0`, without the cancellation near it.
fn stretch(y: f64, xi: f64) -> f64 {
    if xi.abs() < 1e-12 { y } else { (xi * y).exp_m1() / xi }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gev_share(x: f64, mu: f64, sigma: f64, xi: f64) -> f64 {
        (-(1.0 + xi * (x - mu) / sigma).powf(-1.0 / xi)).exp()
    }

    fn gpareto_share(x: f64, mu: f64, sigma: f64, xi: f64) -> f64 {
        1.0 - (1.0 + xi * (x - mu) / sigma).powf(-1.0 / xi)
    }

    #[test]
    fn the_limits_are_gumbel_and_exponential() {
        assert!((gev(0.5, 3.0, 2.0, 0.0) - (3.0 - 2.0 * 2f64.ln().ln())).abs() < 1e-12);
        assert!((gpareto(0.5, 3.0, 2.0, 0.0) - (3.0 + 2.0 * 2f64.ln())).abs() < 1e-12);
        assert!((gpareto(0.3, 0.0, 1.0, 1e-9) - gpareto(0.3, 0.0, 1.0, 0.0)).abs() < 1e-8);
    }

    #[test]
    fn the_lower_ends_are_the_supports() {
        assert_eq!(gpareto(0.0, 15.0, 214.476, 0.348238), 15.0);
        assert!((gev(0.0, 30.0, 8.0, 0.5) - (30.0 - 16.0)).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn quantiles_invert_the_distribution_functions(
            u in 0.001..0.999f64, mu in -50.0..50.0f64, sigma in 0.1..300.0f64, xi in prop_oneof![-0.9..-0.01f64, 0.01..0.9f64]
        ) {
            prop_assert!((gev_share(gev(u, mu, sigma, xi), mu, sigma, xi) - u).abs() < 1e-9);
            prop_assert!((gpareto_share(gpareto(u, mu, sigma, xi), mu, sigma, xi) - u).abs() < 1e-9);
        }

        #[test]
        fn quantiles_ascend(u in 0.0..1.0f64, v in 0.0..1.0f64, xi in -0.9..0.9f64) {
            let (low, high) = (u.min(v), u.max(v));
            prop_assert!(gev(low, 1.0, 2.0, xi) <= gev(high, 1.0, 2.0, xi));
            prop_assert!(gpareto(low, 1.0, 2.0, xi) <= gpareto(high, 1.0, 2.0, xi));
        }
    }
}
