//! The secret of a TCP MD5 signature.

use std::fmt;

use zeroize::Zeroizing;

use super::sys::MD5_KEY_MAX;

/// A password (RFC 2385). It is never printed, and its memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

/// Why something is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing to sign with.
    #[error("the password is empty: give it 1 to {MD5_KEY_MAX} bytes, or leave it out")]
    Empty,
    /// Longer than the kernel's keys.
    #[error("the password has {0} bytes and may have {MD5_KEY_MAX}")]
    TooLong(usize),
}

impl Password {
    /// From its bytes.
    ///
    /// # Errors
    ///
    /// When it is empty or longer than 80 bytes.
    pub fn new(bytes: &[u8]) -> Result<Password, PasswordError> {
        match bytes.len() {
            0 => Err(PasswordError::Empty),
            1..=MD5_KEY_MAX => Ok(Password(Zeroizing::new(bytes.to_vec()))),
            len => Err(PasswordError::TooLong(len)),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let password = Password::new(b"rack seven").unwrap();
        let printed = format!("{password:?}");
        assert!(!printed.contains("rack"), "{printed}");
    }

    #[test]
    fn what_the_kernel_cannot_take_is_refused() {
        assert_eq!(Password::new(b""), Err(PasswordError::Empty));
        assert_eq!(Password::new(&[1; 81]), Err(PasswordError::TooLong(81)));
        assert!(Password::new(&[1; 80]).is_ok());
    }
}
