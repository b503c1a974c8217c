package token

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
)

// checkClaims judges the registered claims. It is called for signed claims only, so that "expired" and
// "wrong audience" are said of tokens that the issuer made.
func (i *issuer) checkClaims(claims map[string]any, now time.Time) (Claims, error) {
	if err := i.checkAudience(claims); err != nil {
		return Claims{}, err
	}
	dates, err := datesOf(claims)
	if err != nil {
		return Claims{}, err
	}
	if err := i.checkDates(dates, now); err != nil {
		return Claims{}, err
	}
	from, until := i.period(dates)
	return Claims{Issuer: i.URL, Expiry: dates.exp, Values: claims, proof: proof{issuer: i, from: from, until: until}}, nil
}

// checkAudience requires one of the issuer's audiences, byte for byte, in aud: a string or an array of
// strings (RFC 7519 section 4.1.3). Libraries skipped the check for arrays and for a missing aud
// (CVE-2020-26160, CVE-2024-5798).
func (i *issuer) checkAudience(claims map[string]any) error {
	var audiences []string
	switch aud := claims["aud"].(type) {
	case string:
		audiences = []string{aud}
	case []any:
		for _, element := range aud {
			audience, ok := element.(string)
			if !ok {
				return refuse(ErrInvalid, "aud holds something that is not a string")
			}
			audiences = append(audiences, audience)
		}
	case nil:
		return refuse(ErrAudienceMismatch, "aud is missing")
	default:
		return refuse(ErrInvalid, "aud is neither a string nor an array")
	}
	if !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(i.Audiences, a) }) {
		return refuse(ErrAudienceMismatch, "aud holds none of the configured audiences")
	}
	return nil
}

// dates are a token's NumericDates; the zero time is an absent one.
type dates struct{ exp, nbf, iat time.Time }

func datesOf(claims map[string]any) (d dates, err error) {
	if d.exp, err = numericDate(claims, "exp"); err != nil {
		return dates{}, err
	}
	if d.exp.IsZero() {
		return dates{}, refuse(ErrInvalid, "exp is missing")
	}
	if d.nbf, err = numericDate(claims, "nbf"); err != nil {
		return dates{}, err
	}
	if d.iat, err = numericDate(claims, "iat"); err != nil {
		return dates{}, err
	}
	return d, nil
}

// numericDate reads a NumericDate (RFC 7519 section 2): a JSON number of seconds since 1970, fractions
// allowed. Outside 0 < n < 2^53 it is refused: golang-jwt's float → int64 conversion made nbf 1e300 a
// date in the past (measured), and took exp 0 as absent.
func numericDate(claims map[string]any, name string) (time.Time, error) {
	value, present := claims[name]
	if !present {
		return time.Time{}, nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, refuse(ErrInvalid, "%s is not a number", name)
	}
	seconds, err := strconv.ParseFloat(string(number), 64)
	if err != nil || seconds <= 0 || seconds >= 1<<53 {
		return time.Time{}, refuse(ErrInvalid, "%s is not a date", name)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*float64(time.Second))), nil
}

// period is when checkDates passes: from the first instant on, and before the second.
func (i *issuer) period(d dates) (from, until time.Time) {
	from = d.exp.Add(-i.MaxLifetime) // without iat, the lifetime counts from now
	if !d.iat.IsZero() {
		from = d.iat.Add(-i.Leeway)
	}
	if notBefore := d.nbf.Add(-i.Leeway); notBefore.After(from) {
		from = notBefore
	}
	return from, d.exp.Add(i.Leeway)
}

// checkDates applies RFC 7519 sections 4.1.4 to 4.1.6 with leeway. The lifetime is bounded, so that a
// token with exp 1e18 is no key for ever.
func (i *issuer) checkDates(d dates, now time.Time) error {
	if !now.Before(d.exp.Add(i.Leeway)) {
		return refuse(ErrExpired, "exp has passed")
	}
	if d.nbf.After(now.Add(i.Leeway)) {
		return refuse(ErrNotYetValid, "nbf is in the future")
	}
	if d.iat.After(now.Add(i.Leeway)) {
		return refuse(ErrNotYetValid, "iat is in the future")
	}
	issued := d.iat
	if issued.IsZero() {
		issued = now
	}
	if d.exp.Sub(issued) > i.MaxLifetime {
		return refuse(ErrInvalid, "exp is more than %v after iat", i.MaxLifetime)
	}
	return nil
}
