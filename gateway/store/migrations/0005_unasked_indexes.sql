-- Indexes of questions that nobody asks: each was a page more to write, with every settlement, webhook and new wallet.
DROP INDEX settlements_account;
DROP INDEX hooks_account;
DROP INDEX wallet_accounts_account;
